"""The job files for SLURM, Open MPI, Kubernetes and a check on a GPU, with stand-ins for programs.

docs/cluster.md tells what was run with real ones.
"""

import os
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from gan_jax.modes import cluster, parsing
from tests.helpers.shell import ROOT

JOBS = ROOT / "jobs"


def environment(tmp_path: Path, **variables: str) -> dict[str, str]:
    """This environment with stand-ins that note how they are called and end with $STATUS."""
    for name in ("srun", "scontrol", "mpirun"):
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        status = "0" if name == "scontrol" else "$STATUS"
        tool.write_text(f'#!/bin/bash\necho "{name} $*" >> "$CALLS"\nexit {status}\n')
        tool.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "CALLS": str(tmp_path / "calls"), **variables}


@pytest.mark.parametrize("script", sorted(JOBS.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("status", [0, 75, 1])
def test_slurm_queues_a_saved_run_again(tmp_path, status):
    variables = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "17", "STATUS": str(status)}
    words = ["bash", str(JOBS / "slurm.sh"), "--config.optim.gen.lr=1e-4", "--budget=1 h"]
    done = subprocess.run(words, env=environment(tmp_path, WORKDIR="/shared/a", **variables))
    assert done.returncode == status
    first, *rest = (tmp_path / "calls").read_text().splitlines()
    command = "launch.py --config=configs/dcgan_mnist.py --workdir=/shared/a --config.optim.gen.lr"
    assert first.startswith(f"srun --kill-on-bad-exit=0 .venv/bin/python {command}=1e-4 ")
    assert first.endswith(" --budget=1 h")
    assert rest == (["scontrol requeue 17"] if status == 75 else [])


def test_open_mpi_starts_a_process_for_each_slot(tmp_path):
    variables = environment(tmp_path, HOSTS="a:1,b:1", STATUS="75")
    done = subprocess.run(["bash", str(JOBS / "openmpi.sh"), "--budget=1h"], env=variables)
    assert done.returncode == 75
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.startswith("mpirun --host a:1,b:1 --bind-to none bash ")
    assert "--on-host .venv/bin/python launch.py --config=configs/dcgan_mnist.py --work" in call
    assert call.endswith(" --budget=1h")


def test_open_mpi_asks_a_process_to_stop():
    """mpirun hands SIGUSR1 to the script and to the process that it started."""
    code = "trap 'exit 75' TERM; echo ready; while :; do sleep 0.1; done"
    words = ["bash", str(JOBS / "openmpi.sh"), "--on-host", "bash", "-c", code]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGUSR1)
    assert process.wait(timeout=60) == 75
    process.stdout.close()


def test_pods_of_kubernetes_find_each_other():
    """Names and numbers that have to agree, and the command."""
    service, job = yaml.safe_load_all((JOBS / "kubernetes.yaml").read_text())
    name, pod = job["metadata"]["name"], job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    (container,) = pod["containers"]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    (port,) = service["spec"]["ports"]
    pods = job["spec"]["parallelism"]
    assert job["spec"]["completions"] == pods
    for index in range(pods):
        found = cluster.find(cluster.Asked("on"), variables | {"JOB_COMPLETION_INDEX": str(index)})
        assert found.coordinator == f"{name}-0.{pod['subdomain']}:{port['port']}"
        assert (found.count, found.index) == (pods, index)
    python, *words = container["command"]
    assert python == "python"
    general = parsing.parse(words).general
    assert general.distributed.value == "on"
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert general.workdir.value.startswith(mounts["runs"])
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        assert rule.get("onExitCodes", {}).get("containerName", "train") == container["name"]


@pytest.fixture
def check(tmp_path):
    """Runs jobs/gpu_check.sh with an interpreter that notes its words; launch.py ends with `status`
    there, and pytest is missing. Returns the finished process and the calls of launch.py."""

    def run(*words: str, status: int = 0) -> tuple[subprocess.CompletedProcess, list[str]]:
        python, calls = tmp_path / "python", tmp_path / "calls"
        python.write_text(
            f'#!/bin/bash\necho "$*" >> {calls}\n'
            f'case "$*" in *launch.py*) exit {status} ;; *import?pytest) exit 1 ;; esac\n'
        )
        python.chmod(0o755)
        command = ["bash", str(JOBS / "gpu_check.sh"), f"--out={tmp_path / 'out'}", *words]
        variables = {**os.environ, "PYTHON": str(python)}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
        lines = calls.read_text().splitlines() if calls.exists() else []
        return done, [line for line in lines if line.startswith("launch.py")]

    return run


@pytest.mark.parametrize(("status", "end"), [(0, 0), (75, 0), (1, 1)])
def test_a_check_runs_all_parts(check, status, end):
    done, trainings = check("--small", status=status)
    assert done.returncode == end, done.stdout + done.stderr
    assert "tests: left out, pytest is not installed" in done.stdout
    assert "bench: done" in done.stdout
    assert "profile: done" in done.stdout
    said = {0: "done after", 75: "stopped when its time was over", 1: "failed with status 1"}
    assert f"train_dcgan: {said[status]}" in done.stdout
    assert len(trainings) == 4
    for words in trainings:
        config = parsing.parse(words.split()).general.config.value
        assert config.data.source == "synthetic"
    assert ("failed: train_facades" in done.stdout) == (status == 1)


def test_a_check_leaves_out_what_has_no_data_and_resumes_the_rest(check, tmp_path):
    (tmp_path / "data" / "facades").mkdir(parents=True)
    earlier = tmp_path / "earlier" / "runs" / "facades"
    earlier.mkdir(parents=True)
    (earlier / "config.json").write_text("{}")
    done, trainings = check(f"--data={tmp_path / 'data'}", f"--from={tmp_path / 'earlier'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"sngan: left out, there is no {tmp_path / 'data'}/cifar10.npz (--data)" in done.stdout
    assert f"facades: goes on from {earlier}" in done.stdout
    (words,) = trainings
    config = parsing.parse(words.split()).general.config.value
    assert config.data.path == str(tmp_path / "data" / "facades")
    assert (tmp_path / "out" / "results" / "facades" / "config.json").exists()


@pytest.mark.parametrize("word", ["--smal", "--minutes=many"])
def test_a_check_refuses_wrong_words(check, word):
    done, trainings = check(word)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {word}")
    assert trainings == []
