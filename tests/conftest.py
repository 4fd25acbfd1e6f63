"""A compilation cache for the processes that tests start, and programs freed after each file."""

import gc
import importlib
import os
import tempfile
from pathlib import Path

import pytest

from gan_jax import log

pytest.register_assert_rewrite("tests.helpers")
xla_flags = importlib.import_module("tests.helpers.xla_flags")

# before jax is imported anywhere; the same folder for the processes of all tests
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"gan_jax_tests_{os.getuid()}")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# numbers of the tests are XLA's; tests of oneDNN switch it on
os.environ.setdefault("GAN_JAX_ONEDNN", "0")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads wait by spinning
# eight devices for the tests that compare one with many; processes that tests start see one
FLAGS = [
    "--xla_force_host_platform_device_count=8",
    *xla_flags.FAST_COMPILING,
    "--xla_cpu_parallel_codegen_split_count=1",
]
for flag in FLAGS:
    if flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()

# the files that take longest, by their paths below tests/; they come first, so that two workers end
# at about the same time
LONGEST = (
    "systems/test_contract.py",
    "systems/test_contract_diffusion.py",
    "systems/test_progan_system.py",
    "evaluation/test_quality.py",
    "modes/test_bad_input.py",
    "run/test_resume.py",
    "soak/test_soak.py",
    "systems/test_warpgan_golden.py",
    "modes/test_translate.py",
    "models/test_unet.py",
    "modes/test_import_run.py",
    "systems/test_diffusion_train.py",
    "systems/test_progan_golden.py",
    "run/test_restore.py",
    "house/test_tutorials.py",
    "modes/test_outputs.py",
    "house/test_notebook.py",
    "systems/test_gan_sampling.py",
)
TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Long files first; the order inside a file stays."""
    place = {TESTS / name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def pytest_collection_finish():
    """Tracing makes many small objects. Python looks for circles among them seldom, and never again
    among what was imported: that is a tenth of the time of a test that compiles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    # tests seldom compile a program twice, so that writing programs costs more than reading them
    # saves. Processes that tests start share many, and keep the cache
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # jax asks once, and may have asked during an import


@pytest.fixture(autouse=True, scope="session")
def classifiers_trained_once(tmp_path_factory):
    """The classifiers by which runs measure their samples, each trained once.

    A run whose classifier has the config of one that was trained before gets a copy of it: the same
    bits, in a fraction of the time.
    """
    from tests.helpers import trained_once

    with pytest.MonkeyPatch.context() as patch:
        trained_once.classifiers(patch, tmp_path_factory.mktemp("classifiers"))
        yield


@pytest.fixture
def lines():
    """The lines that the library prints during the test: they come here instead, in order."""
    found: list[str] = []
    with log.sent_to(found.append):
        yield found


MOST_MAPS = 20_000


@pytest.fixture(autouse=True, scope="module")
def free_programs():
    """Drops the compiled programs of a file of tests when it ends.

    A program keeps dozens of memory maps, Linux allows a process 65,530, and XLA aborts at the
    limit: one worker reached it before the suite had run through.
    """
    yield
    _free()
    gc.freeze()  # what is left lives until the end: the next file need not look at it again


@pytest.fixture(autouse=True)
def free_many_programs():
    """The same inside a file that compiles very much, such as the contract over every config."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        _free()


def _free() -> None:
    import jax

    jax.clear_caches()
    gc.collect()
