"""config.log tells what has changed in a run, and when."""

import re

import pytest

from gan_jax import config as configs
from gan_jax.core.system import Facts
from gan_jax.run import config_log, provenance

FACTS = Facts(8, 1, 0, 48)


@pytest.fixture
def config():
    return configs.tiny(configs.defaults("classifier"))


def written(folder, config, resumed=None):
    """The lines that a start of the run adds to config.log, without their dates."""
    path = folder / "config.log"
    before = len(path.read_text().splitlines()) if path.exists() else 0
    provenance.write_config(folder, config, 1, FACTS, resumed)
    lines = path.read_text().splitlines()[before:]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d step \d+: ", line) for line in lines)
    return [line[20:] for line in lines]


def test_a_start_and_each_resume_with_a_line_for_each_key(tmp_path, config, monkeypatch):
    words = ["python", "launch.py", "--config=a b.py"]
    monkeypatch.setattr(provenance, "command", lambda folder: words)
    assert written(tmp_path, config) == ["step 0: begun: python launch.py '--config=a b.py'"]
    assert written(tmp_path, config, 4) == ["step 4: resumed, nothing has changed"]
    config.run.update(steps="12", keep=5)
    assert written(tmp_path, config, 6) == [
        "step 6: resumed",
        "step 6: config.run.keep: 2 → 5",
        'step 6: config.run.steps: "6" → "12"',
    ]
    config.run.steps = "20"  # compared with the resume before, not with the first start
    monkeypatch.setattr(provenance, "git_revision", lambda: "f00")
    *_, git = lines = written(tmp_path, config, 9)
    assert lines[:2] == ["step 9: resumed", 'step 9: config.run.steps: "12" → "20"']
    assert git.endswith('→ "f00"')


def test_a_run_that_is_replaced_begins_again(tmp_path, config):
    written(tmp_path, config)
    config.seed = 3
    assert written(tmp_path, config) == ["step 0: begun"]


def test_keys_that_were_added_since_count_with_their_defaults(config):
    now = {"config": configs.plain(config)}
    before = {"config": configs.plain(config)}
    del before["config"]["run"]["workers"]
    assert config_log.changes(before, now) == []
    now["config"]["run"]["workers"] = 4
    assert config_log.changes(before, now) == ["config.run.workers: -1 → 4"]


def test_a_value_with_a_line_break_stays_in_its_line(tmp_path, config):
    written(tmp_path, config)
    config.data.path = "a\nstep 0: begun"
    _, line = written(tmp_path, config, 2)
    assert line == r'step 2: config.data.path: "" → "a\nstep 0: begun"'


def test_a_log_that_cannot_be_written_stops_no_run(tmp_path, config, lines):
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "config.log").symlink_to(tmp_path / "elsewhere")
    provenance.write_config(tmp_path, config, 1, FACTS)
    assert (tmp_path / "config.json").exists()
    assert (tmp_path / "elsewhere").read_text() == "mine"
    assert lines == [f"{tmp_path / 'config.log'} cannot be written: it is a link"]
