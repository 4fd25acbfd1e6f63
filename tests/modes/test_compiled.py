"""Compiled programs are kept in the user's cache folder, and change no bit of a run."""

import os
import warnings

import jax
import pytest

from gan_jax.modes import compiled
from tests.helpers.shell import arrays, assert_same, launch, rows

TINY = ("--config=classifier_mnist:tiny", "--config.run.steps=1", "--config.run.log_every=1")


@pytest.fixture(autouse=True)
def no_folder_of_our_own(monkeypatch):
    """Whoever runs the tests may have named one, which would come before XDG_CACHE_HOME."""
    monkeypatch.delenv("GAN_JAX_CACHE", raising=False)


@pytest.fixture
def asked(monkeypatch):
    """What is asked of a jax that has no folder yet."""
    found = {}
    monkeypatch.setattr(jax.config, "update", found.__setitem__)
    monkeypatch.setattr(type(jax.config), "jax_compilation_cache_dir", None, raising=False)
    with warnings.catch_warnings():
        yield found


def keep(chosen: str = "auto", several: bool = False) -> None:
    compiled.keep(jax, chosen, several)


def test_the_folder_of_the_user(monkeypatch, tmp_path, asked):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    keep()
    folder = compiled.default_folder()
    assert asked == {"jax_compilation_cache_dir": str(folder)}
    assert folder.is_dir()
    assert folder.parent == tmp_path / "xdg" / "gan_jax"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    keep()
    assert asked["jax_compilation_cache_dir"].startswith(f"{tmp_path}/home/.cache/gan_jax/compiled")
    # a relative folder is none, says the standard
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert str(compiled.default_folder()).startswith(f"{tmp_path}/home/.cache/")
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "ours"))
    assert compiled.default_folder().parent == tmp_path / "ours"


def test_no_home_folder(monkeypatch, tmp_path, asked, caplog):
    """As in a container whose user is not in its list: nothing is written to a folder named ~."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    keep()
    assert not asked
    assert "there is no home folder" in caplog.text
    assert not [*tmp_path.iterdir()]


def test_processors_do_not_share_programs(monkeypatch, tmp_path):
    first = compiled.default_folder()
    assert compiled.default_folder() == first
    text = "processor\t: 0\nflags\t\t: sse avx\ncpu MHz\t\t: {}\n\nprocessor\t: 1\n"
    names = []
    for megahertz, features in ((1000, "avx"), (2000, "avx"), (1000, "avx512f")):
        info = text.format(megahertz).replace("avx", features)
        monkeypatch.setattr(compiled.Path, "read_text", lambda path, info=info, **_: info)
        names.append(compiled.default_folder().name)
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("chosen", ["off", ""])
def test_no_folder(asked, chosen):
    keep(chosen)
    assert asked == {"jax_enable_compilation_cache": False}


def test_several_processes_keep_only_what_is_asked_for(asked):
    keep(several=True)
    assert asked == {}
    keep("/shared/compiled", several=True)
    assert asked == {"jax_compilation_cache_dir": "/shared/compiled"}


def test_a_folder_of_the_environment_stays(monkeypatch, asked):
    monkeypatch.setattr(type(jax.config), "jax_compilation_cache_dir", "/a", raising=False)
    keep()
    assert asked == {}


def test_a_folder_that_cannot_be_made(monkeypatch, tmp_path, asked, lines):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep()
    assert asked == {}
    (line,) = lines
    assert line.startswith(f"compiled programs are not kept: {tmp_path}/file/gan_jax/compiled-")
    assert line.endswith(": Not a directory")


def test_the_oldest_programs_go_first(monkeypatch, tmp_path, asked):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiled, "MOST_BYTES", 250)
    old = tmp_path / "gan_jax" / "compiled-another"
    old.mkdir(parents=True)
    for age in range(4):
        path = old / f"program{age}-cache"
        path.write_bytes(bytes(100))
        os.utime(path, (10**9 - age, 10**9 - age))
    keep()
    assert sorted(path.name for path in old.iterdir()) == ["program0-cache", "program1-cache"]


def test_a_kept_program_has_the_same_bits(tmp_path):
    """Without a folder, with an empty one, and with a full one in which one program is spoilt."""
    environment = {
        "JAX_COMPILATION_CACHE_DIR": "",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XDG_CACHE_HOME": str(tmp_path / "xdg"),
    }

    def train(name: str, *words: str) -> None:
        workdir = tmp_path / name
        done = launch(*TINY, f"--workdir={workdir}", *words, environment=environment)
        assert done.returncode == 0, done.stderr
        assert "Error" not in done.stderr
        if name != "none":
            assert rows(workdir) == rows(tmp_path / "none")
            assert_same(arrays(workdir), arrays(tmp_path / "none"))

    train("none", "--compilation_cache=off")
    kept = tmp_path / "xdg" / "gan_jax"
    assert not kept.exists()
    train("cold")
    programs = {path: path.read_bytes() for path in kept.rglob("*-cache")}
    assert len(programs) > 1
    spoilt = min(programs)
    spoilt.write_bytes(programs[spoilt][:-100])
    train("warm")
    assert {*kept.rglob("*-cache")} == programs.keys()
