"""--mode=completion: what bash offers after a line, and that the scripts know every name."""

import shutil
import subprocess

import pytest

from gan_jax import config as configs
from gan_jax.modes import MODES, parsing
from gan_jax.modes.actions import completion
from tests.helpers.shell import launch_here

ASK = """
source "$1"; shift
COMP_WORDBREAKS="$1"; shift
for COMP_LINE in "$@"; do
  COMP_POINT=${#COMP_LINE} COMPREPLY=()
  _gan_jax
  printf '%s\\n' "${COMPREPLY[@]}" END
done
"""
USUAL = " \t\n\"'><=;|&(:"  # bash's own


def offered(tmp_path, *lines: str, breaks: str = USUAL) -> list[list[str]]:
    """What bash offers after each of these lines."""
    script = tmp_path / "completion.bash"
    script.write_text(completion.script("bash"))
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK, "bash", str(script), breaks, *lines],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    return [part.split("\n") for part in done.stdout.split("END\n")[:-1]]


def check(tmp_path, wanted: dict[str, list[str]], **options) -> None:
    found = offered(tmp_path, *(f"gan_jax {line}" for line in wanted), **options)
    found = [[word for word in words if word] for words in found]
    assert dict(zip(wanted, found, strict=True)) == wanted


def test_bash_completes_modes_flags_configs_and_variants(tmp_path):
    wanted = {
        "--mod": ["--mode="],
        "--mode=": [*MODES],
        "--mode=sa": ["sample"],
        "--mode=sample --see": ["--seeds="],
        "--mode sample --see": ["--seeds="],
        "--see": [],  # training has no such flag
        "--mode=metrics --f": ["--fake=", "--feature_classifier=", "--few"],
        "--mode=metrics --nof": ["--nofew"],
        "--platform=c": ["cpu", "cuda"],
        "--mode=list --system=p": ["pix2pix", "progan"],
        "--mode=completion --shell=": ["bash", "zsh", "fish"],
        "--config=dcgan": ["dcgan_cifar10", "dcgan_fashion", "dcgan_mnist"],
        "--config=dcgan_mnist:": ["pytorch_gan", "labels", "tiny"],
        "--config=dcgan_mnist:labels,t": ["labels,tiny"],
        "--config=configs/dcgan_mnist.py:py": ["pytorch_gan"],
        "--config=nothing:": [],
    }
    check(tmp_path, wanted)


def test_bash_without_words_that_break_at_signs(tmp_path):
    """Some people take = and : out of COMP_WORDBREAKS: words are then completed as a whole."""
    wanted = {
        "--mode=sa": ["--mode=sample"],
        "--config=dcgan_mnist:labels,t": ["--config=dcgan_mnist:labels,tiny"],
    }
    check(tmp_path, wanted, breaks=" \t\n")


def test_bash_completes_folders_of_runs(tmp_path):
    for name in ("runs/00000-a", "runs/00001-b c", "other"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").touch()
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "rooms").mkdir()
    both = ["runs/00000-a", "runs/00001-b c"]
    wanted = {
        "--mode=report --workdir=": ["other", *both],
        "--mode=report --workdir=runs/": both,
        "--mode=report --workdir=runs/00001": both[1:],
        "--mode=report --workdir=roo": ["rooms"],  # no run: folders
        "--mode=metrics --real=ro": ["rooms"],
    }
    check(tmp_path, wanted)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_holds_every_name(shell, tmp_path):
    done = launch_here("--mode=completion", f"--shell={shell}")
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert "@" not in text.replace("$@", "").replace("[@]", "")
    for name in configs.shipped():
        assert name in text
    for mode in MODES:
        for flag in parsing.load(mode).FLAGS:
            assert f"--{flag}" in text or f"-l {flag}" in text, (mode, flag)
    program = shutil.which(shell)  # whichever of them are installed
    if program:
        script = tmp_path / "script"
        script.write_text(text)
        subprocess.run([program, "-n", str(script)], check=True, timeout=60)
