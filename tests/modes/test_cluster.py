"""Which processes compute together, from the variables of each scheduler, and how they join."""

import errno
import os
import socket
import subprocess
import time

import jax
import pytest

from gan_jax.errors import UserError
from gan_jax.modes import cluster, devices, joining, parsing
from tests.helpers.processes import free_port
from tests.helpers.shell import ROOT, command, error_line, launch_here, one_device, rows

TINY = ("--config=classifier_mnist:tiny", "--config.run.steps=1", "--config.run.log_every=1")


def slurm(index: int = 0, tasks: int = 2, per_node: str = "2", **more: str) -> dict[str, str]:
    """The variables that srun gives a task (read off Debian's SLURM 22.05)."""
    return {
        "SLURM_JOB_ID": "17",
        "SLURM_STEP_ID": "0",
        "SLURM_NTASKS": str(tasks),
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_STEP_NODELIST": "gpu[03-07,12],login",
        "SLURM_STEP_TASKS_PER_NODE": per_node,
        "SLURM_NODEID": "0",
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index),
        **more,
    }


def mpi(index: int = 0, size: int = 2, local: int = 2, **more: str) -> dict[str, str]:
    """The variables that Open MPI 4's mpirun gives a process."""
    return {
        "OMPI_COMM_WORLD_SIZE": str(size),
        "OMPI_COMM_WORLD_RANK": str(index),
        "OMPI_COMM_WORLD_LOCAL_SIZE": str(local),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(index % local),
        "OMPI_MCA_orte_hnp_uri": "3141.0;tcp://10.0.0.1,10.1.0.1:34911",
        "PMIX_NAMESPACE": "3141",
        **more,
    }


def find(environment: dict, gpus: int = 0, **flags) -> cluster.Member | None:
    return cluster.find(cluster.Asked(**flags), environment, gpus)


def refused(environment: dict, **flags) -> str:
    with pytest.raises(UserError) as caught:
        find(environment, **flags)
    return str(caught.value)


ALL = {"coordinator": "node1:4000", "count": 4, "index": 3}
KUBERNETES = {"JOB_COMPLETION_INDEX": "1"}


def test_flags_and_variables_in_their_order():
    assert find({}, **ALL) == ("node1:4000", 4, 3, None, "flags")
    ours = dict(GAN_JAX_COORDINATOR="b:1", GAN_JAX_NUM_PROCESSES="2", GAN_JAX_PROCESS_ID="0")
    jaxs = dict(JAX_COORDINATOR_ADDRESS="c:1", JAX_NUM_PROCESSES="3", JAX_PROCESS_ID="2")
    assert find(ours)[:3] == ("b:1", 2, 0)
    assert find(jaxs)[:3] == ("c:1", 3, 2)
    assert find({**ours, **jaxs, **slurm()})[:3] == ("b:1", 2, 0)
    assert find({**ours, **slurm()}, index=1)[:3] == ("b:1", 2, 1)
    # what is not given comes from the scheduler
    assert find({"GAN_JAX_COORDINATOR": "b:1", **slurm(1)})[:3] == ("b:1", 2, 1)


def test_tasks_of_slurm():
    first, second = find(slurm(0)), find(slurm(1))
    assert first.coordinator == second.coordinator
    host, _, port = first.coordinator.partition(":")
    assert host == "gpu03"
    assert 61440 <= int(port) <= 65535
    assert (first[1:3], second[1:3], first.found) == ((2, 0), (2, 1), "SLURM")
    # two steps of a job use two ports
    assert find(slurm(SLURM_STEP_ID="1")).coordinator != first.coordinator
    for nodes, expected in (("n1", "n1"), ("a-1,b", "a-1"), ("r[0-1]n[4,9]-ib", "r0n4-ib")):
        assert find(slurm(SLURM_STEP_NODELIST=nodes)).coordinator.startswith(f"{expected}:")


def test_processes_of_open_mpi():
    assert find(mpi(1))[1:] == (2, 1, None, "Open MPI")
    assert find(mpi()).coordinator.startswith("127.0.0.1:")
    assert find(mpi(size=4)).coordinator.startswith("10.0.0.1:")
    uri = "3141.0;tcp6://[fe80::1,2620::2]:43370"
    assert find(mpi(size=4, OMPI_MCA_orte_hnp_uri=uri)).coordinator.startswith("[fe80::1]:")
    # mpirun in a job of SLURM starts its helpers as tasks of their own
    assert find({**slurm(tasks=2), **mpi(3, size=8, local=4)})[1:3] == (8, 3)
    message = refused(mpi(size=4, OMPI_MCA_orte_hnp_uri=""))
    assert "OMPI_COMM_WORLD_SIZE=4" in message
    assert "without the address of the first process (--coordinator or GAN_JAX_COORD" in message


def test_pods_of_an_indexed_job():
    rest = {"GAN_JAX_COORDINATOR": "gan-0.gan:61440", "GAN_JAX_NUM_PROCESSES": "2"}
    assert find({**KUBERNETES, **rest}) == ("gan-0.gan:61440", 2, 1, None, "Kubernetes")
    assert find(KUBERNETES) is None
    line = refused(KUBERNETES, distributed="on")
    assert line.startswith("JOB_COMPLETION_INDEX=1 without the address of the first process (")
    assert "GAN_JAX_NUM_PROCESSES" in line


@pytest.mark.parametrize(
    "environment",
    [
        {},
        slurm(tasks=1),
        mpi(size=1, local=1),
        {"GAN_JAX_NUM_PROCESSES": "1", "JOB_COMPLETION_INDEX": "0"},
        {"JAX_NUM_PROCESSES": "1"},
        # the script of a job with two tasks, before srun has started them
        {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
    ],
)
def test_a_single_process_waits_for_nobody(environment):
    for distributed in ("auto", "on", "off"):
        assert find(environment, distributed=distributed) is None


def test_the_script_of_a_job_with_several_tasks():
    script = {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}
    assert cluster.not_yet_started(script)
    assert not cluster.not_yet_started(script | {"SLURM_NTASKS": "1"})
    for started in (slurm(), script | mpi(), {}):
        assert not cluster.not_yet_started(started)


def test_off_is_alone_whatever_a_scheduler_says():
    for environment in (slurm(), mpi(), {"GAN_JAX_NUM_PROCESSES": "2"}):
        assert find(environment, distributed="off") is None


@pytest.mark.parametrize(
    ("environment", "flags", "message"),
    [
        ({}, {"index": 1}, "--process_id=1 without the address of the first process (--coordin"),
        ({}, {"coordinator": "a:1", "count": 2}, "--coordinator=a:1, --num_processes=2 without "),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, {}, "JAX_COORDINATOR_ADDRESS=a:1 without the number"),
        (slurm(), {"count": 4}, "--num_processes=4 contradicts SLURM_STEP_NUM_TASKS=2; leave out"),
        ({}, {**ALL, "index": 4}, "--process_id=4 contradicts --num_processes=4: processes are n"),
        ({}, {**ALL, "index": -1}, "--process_id=-1 contradicts --num_processes=4: processes are"),
        ({}, {**ALL, "count": 0}, "--num_processes=0: at least 1 process is expected"),
        ({}, {**ALL, "coordinator": "node1"}, "--coordinator=node1: HOST:PORT is expected, such "),
        ({"JAX_PROCESS_ID": "x"}, {"coordinator": "a:1", "count": 2}, "JAX_PROCESS_ID=x: a whole"),
        ({}, {"distributed": "off", "index": 1}, "--process_id=1 contradicts --distributed=off; "),
    ],
)
def test_settings_that_are_incomplete_or_contradict_each_other(environment, flags, message):
    assert refused(environment, **flags).startswith(message)


EIGHT = {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}


@pytest.mark.parametrize(
    ("environment", "gpus", "devices"),
    [
        (slurm(0, per_node="1(x2)"), 8, None),
        (slurm(1, per_node="1(x2)", SLURM_NODEID="1", SLURM_LOCALID="0"), 8, None),
        (slurm(1), 2, (1,)),
        (slurm(1, **EIGHT, SLURM_GPUS_ON_NODE="8"), 8, (4, 5, 6, 7)),
        (slurm(2, tasks=5, per_node="2(x2),1", SLURM_NODEID="1", SLURM_LOCALID="0"), 4, (0, 1)),
        # SLURM has given each task its own
        (slurm(1, CUDA_VISIBLE_DEVICES="1", SLURM_GPUS_ON_NODE="2"), 2, None),
        (slurm(1, CUDA_VISIBLE_DEVICES="0,1", SLURM_GPUS_ON_NODE="4"), 4, None),
        (slurm(1, **EIGHT, SLURM_GPUS_PER_TASK="8"), 8, None),
        (slurm(1), 0, None),
        (mpi(1), 4, (2, 3)),
        (mpi(1, size=2, local=1), 4, None),
        (mpi(1, JAX_LOCAL_DEVICE_IDS="0"), 4, None),
    ],
)
def test_the_gpus_of_a_process(environment, gpus, devices):
    assert find(environment, gpus).devices == devices


def test_hosts_of_a_tpu():
    several = cluster.on_several_tpu_hosts
    assert not several({}, "")
    assert not several({}, "10.0.0.1")
    assert several({}, "10.0.0.1,10.0.0.2")
    assert several({"TPU_WORKER_HOSTNAMES": "a,b"}, "")
    assert not several({"TPU_WORKER_HOSTNAMES": "a"}, "10.0.0.1,10.0.0.2")
    assert several({"MEGASCALE_NUM_SLICES": "2"}, "10.0.0.1")


def test_what_the_flag_may_say():
    def said(*words: str) -> str:
        return parsing.parse(["launch.py", "--mode=report", *words]).general.distributed.value

    assert said() == "auto"
    assert said("--distributed") == said("--distributed=true") == said("--distributed=on") == "on"
    assert said("--nodistributed") == said("--distributed=false") == "off"
    with pytest.raises(parsing.UsageError, match="accepted are auto, on, off"):
        said("--distributed=yes")


def test_on_wants_a_cluster(monkeypatch):
    for name in (*cluster.COUNT, "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    general = parsing.parse(["launch.py", "--mode=report", "--distributed"]).general
    with pytest.raises(UserError, match="--distributed: no cluster found here; start the proces"):
        devices.prepare(general)
    # srun with one task says that there is nobody to wait for
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    devices.prepare(general)


# ------------------------------------------------------------------------ real processes


def start(devices: int, variables: dict[str, str], *arguments: str) -> subprocess.Popen:
    """launch.py on some simulated devices, with the variables of a scheduler."""
    environment = one_device()
    environment["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        command(*arguments), cwd=ROOT, env={**environment, **variables},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(process: subprocess.Popen) -> subprocess.CompletedProcess:
    out, err = process.communicate(timeout=400)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_two_tasks_of_slurm_train_one_run(tmp_path):
    """Without a flag, each with four devices: the rows of one process with eight.

    Adam would divide the gradient of a bias before a normalisation, which is rounding alone, by its
    own size. A proxy that leads nowhere is for the rest of the world.
    """
    both = tmp_path / "both"
    variables = {"SLURM_STEP_NODELIST": "localhost", "SLURM_JOB_ID": str(os.getpid())}
    variables |= dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    steady = (*TINY, "--config.optim.classifier.name=sgd")
    words = (*steady, "--platform=cpu", f"--workdir={both}")
    tasks = [start(4, slurm(i, **variables), *words) for i in (0, 1)]
    first, second = map(finished, tasks)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout.startswith("2 processes, found by SLURM")
    assert "devices: 8 x cpu" in first.stdout
    assert second.stdout == ""
    alone = launch_here(*steady, f"--workdir={tmp_path / 'alone'}", "--config.run.devices=8")
    assert alone.returncode == 0, alone.stderr
    found, expected = rows(both), rows(tmp_path / "alone")
    assert [row.pop("kind") for row in found] == [row.pop("kind") for row in expected] != []
    for row, wanted in zip(found, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("index", [0, 1])
def test_nobody_answers(index):
    """One line that names the address, where jax would abort with a trace of C++."""
    address = f"127.0.0.1:{free_port()}"
    words = (f"--coordinator={address}", "--num_processes=2", f"--process_id={index}")
    done = finished(start(1, {}, "--mode=report", *words, "--join_seconds=1"))
    assert done.returncode == 1
    line = error_line(done)
    assert line.startswith("error: --distributed: no answer from ")
    assert address in line


def test_a_signal_while_others_are_waited_for():
    port = free_port()
    words = (f"--coordinator=127.0.0.1:{port}", "--num_processes=2", "--process_id=0")
    process = start(1, {}, "--mode=report", *words)
    for _ in range(600):
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    process.terminate()
    done = finished(process)
    assert done.returncode == 75, done.stderr
    assert done.stdout.startswith("stopped outside training: nothing is lost")


def test_a_machine_without_ipv6(monkeypatch):
    """The first process listens on IPv4, which alone is there."""

    def bind(family, host, port):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    joined = {}
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setenv("no_grpc_proxy", "")
    monkeypatch.setattr(joining, "_listen", bind)
    monkeypatch.setattr(jax.distributed, "initialize", lambda **given: joined.update(given))
    joining.join(jax, cluster.Member("node1:4000", 2, 0), 1)
    assert joined["coordinator_bind_address"] == "0.0.0.0:4000"
    assert joined["coordinator_address"] == "node1:4000"
    assert os.environ[joining.DIRECT[0]] == "localhost,node1"
    joining.join(jax, cluster.Member("node1:4000", 2, 1, (2, 3)), 1)
    assert joined["coordinator_bind_address"] is None
    assert joined["local_device_ids"] == [2, 3]


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        variables = {"GAN_JAX_COORDINATOR": address, "GAN_JAX_PROCESS_ID": "0"}
        arguments = "--mode=report", "--num_processes=2"
        line = error_line(finished(start(1, variables, *arguments)))
    assert line.startswith("error: --distributed: nothing can listen for the other processes at ")
    assert address in line
