"""The command line: help, flags that a mode does not have, old spellings, exit statuses."""

import os
import re

import pytest
from absl.flags import FlagValues

from gan_jax.errors import ArgumentError, UserError
from gan_jax.modes import MODES, door, flags, parsing
from tests.helpers.shell import ROOT, heavy_modules, python

each_mode = pytest.mark.parametrize("mode", MODES)
GENERAL = FlagValues()
flags.general(GENERAL)
# what each mode reads; a flag more or less is a decision
READS = {
    "train": "dry_run compile topology facts budget",
    "sample": "out seeds classes format state weights truncation standing_stats data +",
    "evaluate": "state data +",
    "metrics": "real fake metrics inception resize lpips feature_classifier count deep_bits few "
    "seed kid_subsets kid_subset_size splits save_stats out",
    "prepare": "name out from input side fit encoding labels deep_bits",
    "report": "out",
    "translate": "input out state weights layout first_seed classes +",
    "upsample": "input out state weights layout first_seed classes +",
    "invert": "input out state weights layout first_seed classes +",
    "caricature": "input out num_styles scale style_from style_seed landmarks detector faces "
    "free_size state",
    "align": "input out landmarks detector faces size face_scale deep_bits",
    "interpolate": "out seeds classes state weights seconds fps smoothing data +",
    "timelapse": "out seconds fps time_warp weights",
    "likelihood": "out state count data +",
    "import": "from",
    "export": "out state weights",
    "list": "system",
    "completion": "shell",
}
SAMPLING = "sampler steps eta guidance sampling classifier classifier_scale"
RENAMED = [
    ("metrics", "classifier", "feature_classifier"),
    ("timelapse", "warp", "time_warp"),
    ("caricature", "seed", "style_seed"),
    ("translate", "seeds", "first_seed"),
    ("upsample", "seeds", "first_seed"),
    ("invert", "seeds", "first_seed"),
]


def own_flags(mode: str) -> set[str]:
    return set(parsing.load(mode).FLAGS)


def parsed(*words: str) -> parsing.Command:
    return parsing.parse(["launch.py", *words])


def refused(capsys, *words: str) -> str:
    """The one line that a command ends in; the status is 2."""
    with pytest.raises(SystemExit) as left:
        door.parse(["launch.py", *words])
    assert left.value.code == 2
    out, line = capsys.readouterr()
    assert out == ""
    assert line.count("\n") == 1
    return line.removeprefix("error: ").rstrip()


def helped(capsys, *words: str) -> str:
    """What a command prints before it ends with status 0."""
    with pytest.raises(SystemExit) as left:
        door.parse(["launch.py", *words])
    assert left.value.code == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    return out


# help


@pytest.mark.parametrize("word", ["--help", "-h", "--helpshort", "--helpfull", "-help"])
def test_help_lists_the_modes_and_the_general_flags(capsys, word):
    text = helped(capsys, word)
    for mode, about in MODES.items():
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [mode]]
        assert line.endswith(f" {about.help}")
    for name in GENERAL:
        assert f"--{name}" in text or f"--[no]{name}" in text
    assert "--truncation" not in text
    assert max(map(len, text.splitlines())) <= 100


@each_mode
def test_help_of_a_mode_shows_its_flags_and_two_examples(capsys, mode):
    text = helped(capsys, f"--mode={mode}", "--help")
    assert text == helped(capsys, "--help", "--mode", mode)
    first, _, rest = text.partition(f"Flags of --mode={mode}:")
    examples = [line for line in first.splitlines() if "python launch.py" in line]
    assert len(examples) == 2
    assert all(mode == "train" or f"--mode={mode} " in f"{line} " for line in examples)
    own, _, general = rest.partition("Flags of every mode:")
    shown = {w.replace("[no]", "") for w in own.split() if w.startswith("--")}
    assert {f"--{name}" for name in own_flags(mode)} <= shown
    assert "--platform" in general
    assert max(map(len, text.splitlines())) <= 100


@each_mode
def test_examples_of_a_mode_name_flags_that_it_has(mode):
    text = parsing.load(mode).__doc__
    assert set(re.findall(r"(?<![\w-])--(\w+)", text)) <= own_flags(mode) | set(GENERAL)


@pytest.mark.parametrize(
    ("program", "called"),
    [
        ("launch.py", "python launch.py --config=configs/dcgan_mnist.py"),
        ("/usr/bin/gan_jax", "gan_jax --config=dcgan_mnist"),
        ("/lib/gan_jax/__main__.py", "python -m gan_jax --config=dcgan_mnist"),
    ],
)
def test_examples_call_the_program_as_the_user_did(capsys, program, called):
    with pytest.raises(SystemExit):
        door.parse([program, "--help", "--mode=train"])
    assert f"\n{called} --workdir=runs/a" in capsys.readouterr().out


def test_flags_are_shown_in_the_order_of_their_definition(capsys):
    text = helped(capsys, "--mode=sample", "--help")
    shown = re.findall(r"^  --(?:\[no\])?(\w+)", text, re.M)
    assert shown[:3] == ["out", "seeds", "classes"]
    assert [name for name in shown if name in GENERAL][:3] == ["config", "workdir", "mode"]


def test_defaults_are_shown(capsys):
    text = helped(capsys, "--mode=metrics", "--help")
    assert "--resize (default: tf1)" in text
    assert "--[no]few (default: off)" in text
    assert "--seeds (default: 0-8)" in helped(capsys, "--mode=interpolate", "--help")


def test_help_and_mistakes_need_no_jax():
    code = (
        "from gan_jax.modes import MODES, door, parsing\n"
        "for words in (['--help'], ['--mode=sample', '--help'], ['--mode=align', '--nothing=1']):\n"
        "    try: door.parse(['launch.py', *words])\n"
        "    except SystemExit: pass\n"
        "for mode in MODES: parsing.load(mode)"
    )
    assert heavy_modules(code) == "loaded []"


def test_the_table_of_modes_loads_none():
    code = "import sys, gan_jax.modes; print([m for m in sys.modules if 'modes.' in m])"
    done = python(code)
    assert done.stdout.strip() == "[]", done.stderr


# flags


@each_mode
def test_a_mode_has_the_flags_that_it_reads(mode):
    assert own_flags(mode) == set(READS[mode].replace("+", SAMPLING).split())
    assert not own_flags(mode) & set(GENERAL)


def test_a_flag_of_several_modes_means_one_thing():
    """Its type is the same everywhere, and its help where it does not name the mode's files."""
    files = {"input", "out", "count", "from"}
    for name in {name for mode in MODES for name in own_flags(mode)}:
        found = [parsing.load(m).FLAGS[name] for m in MODES if name in own_flags(m)]
        assert len({type(flag.parser) for flag in found}) == 1, name
        assert len({flag.help for flag in found}) == 1 or name in files, name


@each_mode
def test_flags_of_other_modes_are_refused_with_their_names(capsys, mode):
    own, old = own_flags(mode), {name for m, name, _ in RENAMED if m == mode}
    others = {name for other in MODES for name in own_flags(other)} - own - old
    for name in sorted(others):
        having = ", ".join(other for other in MODES if name in own_flags(other))
        line = refused(capsys, f"--mode={mode}", f"--{name}=1")
        start = f"--{name} is a flag of --mode={having}; --mode={mode} does not have it"
        assert line == start or (mode == "train" and line.startswith(f"{start}: "))


@each_mode
def test_every_flag_of_a_mode_is_understood(mode):
    own = parsing.load(mode).FLAGS
    words = []
    for name in own:
        accepted = [word for word in getattr(own[name].parser, "accepted", ()) if word]
        value = own[name].default or next(iter(accepted), 1)
        words.append(f"--{name}" if flags.takes_no_value(own[name]) else f"--{name}={value}")
    command = parsed(f"--mode={mode}", "--workdir=runs/a", *words)
    assert command.name == mode
    assert command.mode.FLAGS is own
    assert all(own[name].present for name in own)
    assert command.general.workdir.value == "runs/a"
    parsed(f"--mode={mode}")  # values do not stay for the next command
    assert not any(own[name].present for name in own)
    assert all(own[name].value == own[name].default for name in own)


def test_switches_are_turned_off_and_their_negation_is_refused_elsewhere(capsys):
    assert not parsed("--mode=metrics", "--nofew").mode.FEW.value
    assert "--few is a flag of --mode=metrics" in refused(capsys, "--mode=align", "--nofew")


@pytest.mark.parametrize(("mode", "old", "new"), RENAMED)
def test_old_spellings_answer_with_the_new_one(capsys, mode, old, new):
    line = refused(capsys, f"--mode={mode}", f"--{old}=1")
    assert line == f"--{old} of --mode={mode} is now --{new}"


def test_every_old_spelling_is_tested():
    named = {
        (mode, old, new)
        for mode in MODES
        for old, new in getattr(parsing.load(mode), "RENAMED", {}).items()
    }
    assert named == set(RENAMED)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--mode=sample", "--truncatoin=1"], "did you mean --truncation?"),
        (["--truncatoin=1"], "did you mean --truncation of --mode=sample?"),
        (["--wokrdir=a"], "did you mean --workdir?"),
        (["--qqqq=1"], "--mode=train --help shows those there are"),
        (["--mode=sampel"], "did you mean sample?"),
        (["--mode=dream"], ", ".join(MODES)),
        (["--config.seed=1"], "name its file by --config=FILE as well"),
        (["--steps=3"], "--config.run.steps is the length of training"),
        (["extra"], "unexpected argument 'extra'; flags begin with --"),
        (["--mode=metrics", "--seed=much"], "--seed"),
        (["--mode=metrics", "--few=perhaps"], "--few"),
        (["--platform=abacus"], "--platform=abacus: accepted are cpu, cuda, tpu"),
        (["--platform=cdua"], "did you mean cuda?"),
        (["--mode=list", "--system=diffussion"], "did you mean diffusion?"),
        (["--mode=sample", "--out"], "out"),
        (["--config=configs/nothere.py"], "configs/nothere.py: no such file"),
        (
            ["--config=dcgan_mnst"],
            "--config=dcgan_mnst: no such file or config; did you mean dcgan_",
        ),
        (["--config=dcgan_mnst:tiny"], "did you mean dcgan_mnist?"),
        (["--config", "dcgan_mnst.py"], "dcgan_mnst.py: no such file; did you mean dcgan_mnist?"),
        (["--config=nowhere/dcgan_mnst.py"], "did you mean dcgan_mnist?"),
        (["--config=qqqq"], "no such file or config; --mode=list lists the configs of gan_jax"),
        (["--config=dcgan_mnist:lables"], "did you mean labels?"),
        (["--flagfile=nothere"], "nothere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(capsys, words, line):
    assert line in refused(capsys, *words)


def test_keys_of_a_config_are_read_and_checked(capsys):
    config = f"--config={ROOT}/configs/dcgan_mnist.py:tiny"
    command = parsed(config, "--config.optim.gen.lr=0.5", "--config.seed", "7")
    assert command.general.config.value.optim.gen.lr == 0.5
    assert command.general.config.value.seed == 7
    line = refused(capsys, config, "--config.optim.gen.lrr=1")
    assert line.startswith("--config.optim.gen.lrr: config.optim.gen has no 'lrr'; accepted are ")
    assert "batch_size" in refused(capsys, config, "--config.batch_size=1.5")


def test_the_nearest_key_of_a_config_is_named(capsys):
    for key, meant in (("optm.gen.lr", "optim.gen.lr"), ("z_dim", "model.z_dim")):
        line = refused(capsys, "--config=dcgan_mnist:tiny", f"--config.{key}=1")
        assert line.endswith(f"; did you mean --config.{meant}?")
    assert "did you mean" not in refused(capsys, "--config=dcgan_mnist:tiny", "--config.qqqq=1")


def test_a_config_is_named_by_its_file_or_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # where there is no folder configs
    (tmp_path / "mine.py").write_text((ROOT / "configs" / "dcgan_mnist.py").read_text())

    def label(word: str) -> tuple[str, bool]:
        command = parsed(f"--config={word}")
        return command.label, command.general.config.value.model.conditioning == "projection"

    assert label("dcgan_mnist:labels") == ("dcgan_mnist-labels", True)
    assert label(f"{ROOT}/configs/dcgan_mnist.py") == ("dcgan_mnist", False)
    assert label("mine.py:labels,tiny") == ("mine-labels-tiny", True)
    assert "did you mean mine.py?" in refused(capsys, "--config=mien.py")
    # a file wins over a config of that name, and a folder does not
    (tmp_path / "dcgan_mnist").mkdir()
    assert label("dcgan_mnist:labels") == ("dcgan_mnist-labels", True)
    (tmp_path / "quickstart").write_text("from gan_jax.config import load_file as get_config\n")
    with pytest.raises(SystemExit):
        door.parse(["launch.py", "--config=quickstart:nothing"])
    assert "config=nothing: no such file" in capsys.readouterr().err


def test_flags_come_from_a_file(tmp_path):
    (tmp_path / "flags.txt").write_text("--mode=sample\n--seeds=3\n")
    command = parsed(f"--flagfile={tmp_path / 'flags.txt'}", "--state=best")
    assert (command.name, command.mode.SEEDS.value, command.mode.STATE.value) == (
        "sample",
        "3",
        "best",
    )


# messages and statuses


def test_an_argument_is_told_by_its_flag():
    command = parsed("--mode=sample")
    for name, told in (
        ("seeds", "--seeds"),
        ("state", "--state"),
        ("workdir", "--workdir"),
        ("real", "real"),  # no flag of this mode
    ):
        error = ArgumentError(name, "=3: give another")
        assert parsing.message(error, command) == f"{told}=3: give another"
    assert parsing.message(UserError("seeds: x"), command) == "seeds: x"
    assert parsing.message(ArgumentError("face_scale", ": x"), parsed("--mode=align")) == (
        "--face_scale: x"
    )


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        (0, 0),
        (75, 75),
        (UserError("no such run"), 1),
        (ArgumentError("seeds", ": none"), 1),
        (UserError("no such\n  run"), 1),
    ],
)
def test_exit_statuses(monkeypatch, capsys, ends, status):
    command = parsed("--mode=sample", "--workdir=runs/a")
    given = []

    def mode_main(config, workdir):
        given.append((config, workdir))
        if isinstance(ends, UserError):
            raise ends
        return ends

    monkeypatch.setattr(command.mode, "main", mode_main)
    monkeypatch.setattr(door.devices, "prepare", lambda general: None)
    monkeypatch.setattr(door.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as left:
        door.main(command)
    assert left.value.code == status
    assert given == [(None, "runs/a")]
    errors = capsys.readouterr().err
    assert errors in ("", "error: no such run\n", "error: --seeds: none\n")
    assert bool(errors) == (status == 1)


@pytest.mark.parametrize(
    "mode", ["report", "evaluate", "timelapse", "caricature", "likelihood", "export"]
)
def test_modes_of_a_run_ask_for_its_folder(mode):
    command = parsed(f"--mode={mode}")
    with pytest.raises(UserError, match=f"--workdir is missing: --mode={mode} needs the folder"):
        command.mode.main(None, "")


def test_training_asks_for_a_config():
    with pytest.raises(UserError, match="--config is missing: name an experiment"):
        parsed().mode.main(None, "runs/a")


def test_the_newest_run_is_named_where_one_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = parsed("--mode=report")
    error = ArgumentError("workdir", " is missing: name one")
    assert parsing.message(error, command) == "--workdir is missing: name one"
    for number, name in enumerate(("00001-b", "00000-a")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").touch()
        os.utime(tmp_path / "runs" / name / "config.json", (number, number))
    (tmp_path / "runs" / "00002-empty").mkdir()
    told = "--workdir is missing: name one; the newest run in runs/ is --workdir=runs/00000-a"
    assert parsing.message(error, command) == told
    with pytest.raises(UserError) as refusal:
        command.mode.main(None, "")
    assert parsing.message(refusal.value, command).endswith(" is --workdir=runs/00000-a")


def test_data_need_a_run(tmp_path):
    command = parsed("--mode=sample", f"--data={tmp_path}")
    with pytest.raises(UserError, match="name the run by --workdir too"):
        command.mode.main(None, "")
