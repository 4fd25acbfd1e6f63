"""oneDNN is found, compiled and loaded, or a line says why not; programs are found again."""

import jax
import pytest

from gan_jax.ops import onednn
from tests.helpers.onednn import only_where_it_exists
from tests.helpers.shell import python

pytestmark = only_where_it_exists


@pytest.fixture
def not_loaded(monkeypatch, tmp_path):
    """Nothing has been compiled or loaded yet, nor is after the test."""
    monkeypatch.setenv(onednn.SWITCH, "1")
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path))
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    onednn._loaded.cache_clear()
    yield
    onednn._loaded.cache_clear()


def test_without_the_package(not_loaded, monkeypatch, caplog):
    monkeypatch.setattr(onednn, "PACKAGE", "no-such-package")
    assert not onednn.in_use()
    assert not caplog.text


def test_without_a_compiler(not_loaded, monkeypatch, caplog):
    monkeypatch.setattr(onednn, "COMPILERS", ("no-such-compiler",))
    assert not onednn.in_use()
    assert not onednn.in_use()
    (record,) = caplog.records
    assert record.getMessage() == (
        "note: onednn-cpu-gomp is installed but cannot be used, so XLA computes convolutions "
        "(GAN_JAX_ONEDNN=0: without this line): there is no C++ compiler (no-such-compiler)"
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HEADERS", "no-such-package", "pip install no-such-package==2023.2.0"),
        ("VERSION", "1.0", "onednn-cpu-gomp 2023.2.0 is there, and version 1.0 is needed"),
    ],
)
def test_other_packages(not_loaded, monkeypatch, caplog, name, value, said):
    monkeypatch.setattr(onednn, name, value)
    assert not onednn.in_use()
    assert said in caplog.text


def test_what_the_compiler_says(not_loaded, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(onednn, "SOURCE", tmp_path / "wrong.cc")
    onednn.SOURCE.write_text("this is no program")
    assert not onednn.in_use()
    assert "error:" in caplog.text
    assert "\n" not in caplog.records[-1].getMessage()
    assert not [*tmp_path.rglob("*.so")]


PROGRAM = """
import jax, jax.numpy as jnp
from gan_jax.models import convolution
from gan_jax.ops import onednn

assert onednn.in_use()
x, kernel = jnp.full((2, 16, 16, 32), 0.3), jnp.full((3, 3, 32, 32), 0.7)
run = jax.jit(lambda x, kernel: convolution.conv(x, kernel, 1, 1))
assert "ffi_call" in str(jax.make_jaxpr(run)(x, kernel))
print(float(run(x, kernel).sum()))
"""


def test_a_damaged_file_in_the_cache(tmp_path):
    """It is made again; processes of their own, since each loads the file once."""
    environment = {onednn.SWITCH: "1", "GAN_JAX_CACHE": str(tmp_path)}
    first = python(PROGRAM, environment=environment)
    assert first.returncode == 0, first.stderr
    (made,) = (tmp_path / "onednn").glob("*.so")
    whole = made.read_bytes()
    made.write_bytes(whole[: len(whole) // 2])
    made.with_suffix(".sha256").write_bytes(b"\xff\xfe")
    second = python(PROGRAM, environment=environment)
    assert second.returncode == 0, second.stderr
    assert second.stdout == first.stdout
    assert len(made.read_bytes()) == len(whole)
    before = made.stat().st_mtime_ns
    third = python(PROGRAM, environment=environment)
    assert third.stdout.splitlines() == first.stdout.splitlines()[1:]
    assert made.stat().st_mtime_ns == before


def test_programs_of_an_earlier_process(tmp_path):
    """jax keeps compiled programs in a folder; those with a convolution of oneDNN as well."""
    environment = {
        onednn.SWITCH: "1",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    first = python(PROGRAM, environment=environment)
    assert first.returncode == 0, first.stderr
    kept = {p.name for p in tmp_path.glob("*-cache")}
    assert kept
    second = python(PROGRAM, environment=environment)
    assert second.returncode == 0, second.stderr
    assert second.stdout == first.stdout
    assert {p.name for p in tmp_path.glob("*-cache")} == kept
