"""Classes by name: in requests, in files, in titles, in a run's config.json; empty ones."""

import json

import jax
import numpy as np
import pytest

import gan_jax
from gan_jax import config as configs
from gan_jax import log, training
from gan_jax.core.system import Facts
from gan_jax.evaluation import networks, set_metrics
from gan_jax.evaluation.measure import Task
from gan_jax.metrics.metric import CLASSIFIER, MetricOptions, Statistics
from gan_jax.modes.actions import sample
from gan_jax.ops.frechet import Moments
from gan_jax.run import class_names, sampler_settings
from gan_jax.run import folder as workdir
from gan_jax.run.experiment import Experiment
from gan_jax.systems import diffusion, gan
from tests.helpers.one_line import assert_refused, refused_argument
from tests.helpers.source_files import GREEN, RED, picture
from tests.helpers.two_sets import stand_in_of_known_widths

NAMES = ("cat", "Dog", "t-shirt", "10")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cat", [0]),
        ("dog, CAT", [1, 0]),
        ("t-shirt", [2]),
        ("10", [3]),  # a name before a number
        ("0-2,1", [0, 1, 2, 1]),
        ("", []),
    ],
)
def test_words(text, found):
    assert class_names.numbers(configs.words(text), NAMES, 4, "classes") == found


@pytest.mark.parametrize("text", ["bird", "4", "2-5", "-1", "1-", "٣", "0-999999999"])
def test_what_is_no_class(text):
    message = refused_argument(
        "classes", "^: no class", class_names.numbers, configs.words(text), NAMES, 4, "classes"
    )
    assert "accepted are 0 to 3, or by name cat, Dog, t-shirt, 10" in message
    assert len(message) < 300


def test_names_in_files():
    assert class_names.file_suffix(3, ()) == "_class3"
    assert class_names.file_suffix(3, ("0", "1", "2", "3")) == "_class3"
    assert class_names.file_suffix(2, NAMES) == "_class2_t-shirt"
    assert class_names.file_suffix(0, ("a/b\\..: c",)) == "_class0_a-b-c"
    assert class_names.file_suffix(0, ("ß" * 300,)) == "_class0_" + "ß" * 40


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny labelled run on folders `cat` and `dog`, and `eel` that only validation has."""
    root = tmp_path_factory.mktemp("named")
    for i in range(8):
        picture(root / "data" / "train" / "cat" / f"{i}.png", RED, size=(8, 8))
        picture(root / "data" / "train" / "eve" / f"{i}.png", GREEN, size=(8, 8))
    picture(root / "data" / "val" / "dog" / "0.png", size=(8, 8))
    config = configs.load_file("configs/dcgan_mnist.py", "labels,tiny")
    config.data.update(source="folder", path=str(root / "data"), channels="rgb")
    config.run.update(steps="1", devices=1, quality_every="0", sample_count=4)
    config.best.metric = "val/gen"
    said = []
    with log.sent_to(said.append):
        training.train(config, root / "run")
    return root / "run", said, config


def test_names_are_kept_and_said(run):
    folder, said, _ = run
    stored = json.loads((folder / "config.json").read_text())["data"]
    assert stored["class_names"] == ["cat", "dog", "eve"]
    assert stored["empty_classes"] == [1]
    line = next(line for line in said if line.startswith("data: "))
    assert "3 classes (sub-folders): cat, dog, eve" in line
    assert "classes without a training image, which are not drawn: dog" in line


def test_images_by_name(run, tmp_path):
    folder, *_ = run
    model = gan_jax.load(folder)
    np.testing.assert_array_equal(model.sample([5], ["eve"]), model.sample([5], [2]))
    files = sample.sample(folder, tmp_path, [0, 1], ["eve", "CAT"], ("png", "grid"))
    assert [f.name for f in files][1:] == ["seed000000_class2_eve.png", "seed000001_class0_cat.png"]
    unseen = "^: no image of class dog was trained on"
    refused_argument("classes", unseen, model.sample, [5], ["dog"])
    refused_argument("classes", "^: no class bird", model.sample, [5], ["bird"])


def test_empty_classes_are_not_drawn(run):
    folder, *_ = run
    experiment = gan_jax.load(folder).experiment
    assert experiment.sample_batch(range(5))["label"].tolist() == [0, 2, 0, 2, 0]
    assert experiment.sample_batch([7])["label"].tolist() == [2]
    batch, titles = experiment.grid_batch()
    assert titles == ("cat", "eve")
    assert batch["label"].tolist() == [0, 2, 0, 2]


def test_fakes_of_training_are_of_classes_with_images():
    """The training step's own draw of classes leaves out the empty ones, and no other."""
    key = jax.random.key(0)
    for empty, held in (((), {0, 1, 2, 3}), ((0, 3), {1, 2})):
        facts = Facts(8, 1, 4, 16, empty_classes=empty)
        assert {*gan.drawn_labels(key, 200, facts).tolist()} == held


def test_runs_without_names_still_load(run, tmp_path):
    """A config.json of an earlier revision: no names, folders numbered as text."""
    folder, _, config = run
    target = tmp_path / "old"
    (target / "checkpoints").mkdir(parents=True)
    stored = json.loads((folder / "config.json").read_text())
    for name in ("class_names", "empty_classes"):
        del stored["data"][name]
    for name in ("reading", "deep_bits"):
        del stored["config"]["data"][name]
    (target / "config.json").write_text(json.dumps(stored))
    for path in (folder / "checkpoints").iterdir():
        (target / "checkpoints" / path.name).symlink_to(path)
    model = gan_jax.load(target)
    assert model.sample([2]).shape == (1, 8, 8, 3)
    assert model.config.data.reading == "first"
    again = config.copy_and_resolve_references()
    assert workdir.check(target, again)
    assert again.data.reading == "first"
    workdir.check_facts(target, Facts(8, 3, 3, 16, 1, 0, ("cat", "dog", "eve"), (1,)))
    grey = Facts(8, 1, 3, 16, 1, 0, ("cat", "dog", "eve"), (1,))
    key = r"\(channels was 3, is 1\); config\.data\.channels=rgb reads the images as before$"
    refused_argument("workdir", key, workdir.check_facts, target, grey)
    more = r"\(channels was 3, is 1; train_size .*\); restore it, or name another folder$"
    refused_argument("workdir", more, workdir.check_facts, target, grey._replace(train_size=9))
    again.data.channels = "rgb"
    assert workdir.check(target, again)
    other = Facts(8, 3, 3, 16, 1, 0, ("cat", "dog", "fox"), (1,))
    refused_argument("workdir", r"class_names was .*'eve'", workdir.check_facts, folder, other)


def test_numbers_are_names_where_all_names_are_numbers():
    names = ("1", "2", "3", "10")

    def ask(text: str) -> list[int]:
        return class_names.numbers(configs.words(text), names, 4, "classes")

    assert ask("2,3,10") == [1, 2, 3]
    assert ask("2-3") == [1, 2]
    assert class_names.numbers([0, 3], names, 4, "classes") == [0, 3]  # of Python, by number
    for text in ("0", "2-5", "4"):
        refused_argument("classes", "^: no class .*; accepted are 1, 2, 3, 10$", ask, text)


def test_names_with_commas():
    names = ("a,b", "a", "b, c, d")

    def ask(text: str) -> list[int]:
        return class_names.numbers(configs.words(text), names, 3, "classes")

    assert ask("a,b") == [0]
    assert ask("b, c,d,a") == [2, 1]


def test_classes_that_disagree():
    words, counted = ("cat", "dog", "eel"), ("0", "1", "2")
    assert class_names.disagree(words, ()) == class_names.disagree(words, counted) == ""
    assert class_names.disagree(words, words) == ""
    assert class_names.disagree(words, ("dog", "cat", "eel")) == "class 0 is 'cat' and 'dog'"
    text = sorted(map(str, range(12)))
    assert class_names.disagree(text, [*map(str, range(12))]) == "class 2 is '10' and '2'"


def test_numbers_of_the_first_reading_stay_numbers():
    """A run that numbered its folders as text: --classes=10 means what it meant."""
    config = configs.load_file("configs/dcgan_mnist.py", "labels,tiny")
    config.data.reading = "first"
    names = tuple(sorted(map(str, range(12))))
    experiment = Experiment(config, Facts(8, 1, 12, 16, 4, 0, names))
    assert experiment.labels(2, ["10", "2-2"]).tolist() == [10, 2]
    assert experiment.class_title(2) == "10"


def test_a_guide_of_other_classes_is_refused():
    """Another order of names, and folders that the first revision numbered as text."""
    own = configs.load_file("configs/noisy_classifier_mnist.py", "tiny")
    config = configs.load_file("configs/diffusion_mnist.py", "labels,tiny")
    facts = Facts(8, 1, 12, 16, 4, 0, tuple(map(str, range(12))))
    theirs = facts._replace(class_names=())

    def joined() -> Facts:
        """The facts of the model when the classifier guides it; the config stays as it is."""
        guide = sampler_settings._Guide("x", own, theirs)
        return guide.join(diffusion, config.copy_and_resolve_references(), facts, 1.0)

    assert joined() == facts
    own.data.reading = "first"
    other = "^classifier=x has learnt other classes: class 2 is '10' and '2' of the model"
    assert_refused(other, joined)
    config.model.class_cond = False  # the classes are the classifier's
    assert joined().class_names == ()


def test_figures_by_class_leave_out_what_is_not_drawn(run, monkeypatch):
    """`dog` has a validation image and no training image."""
    folder, *_ = run
    experiment = gan_jax.load(folder).experiment
    kept = {("features", k): Moments.of(np.zeros(4), np.eye(4), 4) for k in (0, 1, 2)}
    found = {CLASSIFIER: Statistics(moments=kept)}
    monkeypatch.setattr(set_metrics, "accumulate", lambda *_, **__: found)
    monkeypatch.setattr(networks, "feature_networks", stand_in_of_known_widths)
    names, options = ("fd_by_class_classifier",), MetricOptions(few=True)
    task = Task(experiment, names, "train", np.arange(12), 12, options, experiment.last, None)
    set_metrics.make(task)
    assert {label for _, label in found[CLASSIFIER].moments} == {0, 2}
