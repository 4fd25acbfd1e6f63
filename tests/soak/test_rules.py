"""The rules strike what they say, by the preloaded library and by its substitute in Python."""

import json
import signal

import pytest

from tests.helpers.shell import python
from tests.soak import rules

PROGRAM = """
import json, os, sys
from pathlib import Path
from tests.soak import rules
folder, about = Path(sys.argv[1]), json.loads(sys.argv[2])
about = {k: tuple(v) if isinstance(v, list) else v for k, v in about.items()}
rules.arm(rules.Rule(str(folder), **about), folder.with_suffix(".strikes"))
said = []
for number in range(6):
    try:
        with open(folder / f"{number}.txt", "w") as file:
            file.write("12345678")
            if number % 2 == 0:
                file.flush()
                os.fsync(file.fileno())
        os.replace(folder / f"{number}.txt", folder / f"{number}.done")
        said.append("")
    except OSError as error:
        said.append(error.strerror)
(folder.parent / "outside").write_text("written")
print(json.dumps(said))
"""


@pytest.fixture(params=["library", "Python"])
def environment(request, monkeypatch):
    """What makes a process use the library, or do without."""
    if request.param == "Python":
        return {}
    library = rules.compiled()
    return {"LD_PRELOAD": str(library)} if library else {}


def struck(folder, environment, **rule):
    """(exit status, what the program says of its six files, the strikes as kind and path)."""
    folder.mkdir()
    done = python(PROGRAM, folder.resolve(), json.dumps(rule), environment=environment)
    lines = [line.split(" ", 3) for line in folder.with_suffix(".strikes").read_text().splitlines()]
    said = json.loads(done.stdout) if done.stdout else done.stderr
    return done.returncode, said, [(kind, path) for _, kind, _, path in lines]


def test_operations_fail_where_the_rule_says(tmp_path, environment):
    status, said, strikes = struck(
        tmp_path / "run", environment, kinds=["rename"], pattern="*.done", errors=["ENOSPC", "EIO"],
        first=2, every=2, most=2,
    )  # fmt: skip
    assert (status, said) == (
        0, ["", "No space left on device", "", "Input/output error", "", ""],
    )  # fmt: skip
    assert strikes == [("rename", "1.done"), ("rename", "3.done")]


def test_a_lasting_fault_does_not_end_and_stays_in_the_folder(tmp_path, environment):
    _, said, strikes = struck(tmp_path / "run", environment, kinds=["create"], first=5, most=0)
    assert said == [""] * 4 + ["Input/output error"] * 2
    assert [path for _, path in strikes] == ["4.txt", "5.txt"]
    assert (tmp_path / "outside").read_text() == "written"


def test_a_process_is_killed_before_or_after_an_operation(tmp_path, environment):
    for action, moved in (("kill_before", False), ("kill_after", True)):
        status, _, strikes = struck(
            tmp_path / action, environment, action=action, kinds=["rename"], first=3
        )
        assert (status, strikes) == (-signal.SIGKILL, [("rename", "2.done")])
        assert (tmp_path / action / "2.done").exists() == moved


def test_every_operation_is_traced(tmp_path, environment):
    _, said, strikes = struck(tmp_path / "run", environment, action="trace")
    assert said == [""] * 6
    assert {("create", "0.txt"), ("rename", "5.done")} <= {*strikes}


def test_a_write_falls_short(tmp_path):
    """The library alone reaches the buffers of Python, which write the rest."""
    if not (library := rules.compiled()):
        assert rules.shutil.which("cc") is None
        return
    environment = {"LD_PRELOAD": str(library)}
    rule = dict(action="short", kinds=["write"], most=0)
    _, said, strikes = struck(tmp_path / "run", environment, **rule)
    assert said == [""] * 6
    assert (tmp_path / "run" / "0.done").read_text() == "12345678"
    assert len(strikes) > 6


def test_a_loss_of_power_takes_what_was_not_synchronised(tmp_path):
    if not (library := rules.compiled()):
        assert rules.shutil.which("cc") is None
        return
    environment, folder = {"LD_PRELOAD": str(library)}, tmp_path / "run"
    status, _, _ = struck(folder, environment, action="power", kinds=["rename"], first=4)
    assert status == -signal.SIGKILL
    lines = [line.split(" ", 3) for line in folder.with_suffix(".strikes").read_text().splitlines()]
    strikes = [(int(n), kind, int(size), path) for n, kind, size, path in lines]
    assert rules.lose_power(folder, {}, strikes) == 2
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    assert sizes == {"0.done": 8, "1.done": 0, "2.done": 8, "3.txt": 0}


def test_the_library_lists_what_the_rules_name():
    source = rules.SOURCE.read_text().replace("\n", " ")
    names = source.split("KINDS[] = {")[1].split("}")[0].replace('"', "").split(",")
    assert tuple(name.strip() for name in names) == rules.KINDS
    actions = source.split("enum { TRACE")[1].split("}")[0]
    assert tuple(f"trace{actions}".lower().replace(" ", "").split(",")) == rules.ACTIONS
