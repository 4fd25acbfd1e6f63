"""jobs/tpu_vm.sh against a stand-in for gcloud: a run ends, stops, fails, is taken away."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.shell import ROOT

SCRIPT = ROOT / "jobs" / "tpu_vm.sh"

# One VM, whose host is the folder $CLOUD/home; $CLOUD/state is what the cloud says of it.
GCLOUD = r"""#!/bin/bash
echo "$*" >> "$CLOUD/calls"
case "$1 $2" in
  "storage ls") [ -e "$CLOUD/bucket/${3#gs://bucket}" ]; exit ;;
  "storage rsync")
    from="${*: -2:1}"; to="${*: -1}"
    mkdir -p "${to/gs:\/\/bucket/$CLOUD/bucket}"
    cp -r "${from/gs:\/\/bucket/$CLOUD/bucket}/." "${to/gs:\/\/bucket/$CLOUD/bucket}"; exit ;;
esac
case "$4" in
  describe)
    case "$*" in *networkEndpoints*) echo "$HOST_LIST"; exit ;; esac
    [ -f "$CLOUD/state" ] && cat "$CLOUD/state" ;;
  create) mkdir -p "$CLOUD/home/.local/bin"; cp "$CLOUD/uv" "$CLOUD/home/.local/bin/uv"
    echo READY > "$CLOUD/state" ;;
  delete) rm -rf "$CLOUD/home" "$CLOUD/state" ;;
  scp) cp "$5" "$CLOUD/home/gan_jax.tar.gz" ;;
  ssh) [ "$(cat "$CLOUD/state")" = READY ] || exit 255
    command="${*: -1}"; cd "$CLOUD/home" && HOME="$CLOUD/home" bash -c "${command#*--command=}" ;;
esac
"""
# uv makes an interpreter that notes how launch.py is called and ends as the next line of
# $CLOUD/plan says: with a status, or with the VM taken away.
UV = r"""#!/bin/bash
mkdir -p .venv/bin
cat > .venv/bin/python <<'END'
#!/bin/bash
echo "$*" >> "$CLOUD/launched"
next=$(head -n 1 "$CLOUD/plan"); sed -i 1d "$CLOUD/plan"
for argument in "$@"; do case "$argument" in --workdir=*)
  mkdir -p "${argument#--workdir=}"; echo "$next" >> "${argument#--workdir=}/config.json" ;;
esac; done
if [ "$next" = preempted ]; then echo PREEMPTED > "$CLOUD/state"; kill -KILL $PPID; exit 1; fi
exit "$next"
END
chmod +x .venv/bin/python
"""


@pytest.fixture
def cloud(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tmp_path / "bucket").mkdir()
    for path, text in (
        (tools / "gcloud", GCLOUD),
        (tools / "python3", "#!/bin/bash\n"),
        (tmp_path / "uv", UV),
    ):
        path.write_text(text)
        path.chmod(0o755)
    return tmp_path


def run(cloud: Path, plan: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
    (cloud / "plan").write_text(plan.replace(" ", "\n") + "\n")
    environment = {
        **os.environ,
        "PATH": f"{cloud / 'bin'}:{os.environ['PATH']}",
        "CLOUD": str(cloud),
        "HOST_LIST": "10.0.0.1",
        "POLL_SECONDS": "0.2",
        "SYNC_SECONDS": "100",
        **settings,
    }
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def calls(cloud: Path, verb: str) -> list[str]:
    return [line for line in (cloud / "calls").read_text().splitlines() if f" {verb} " in line]


def launched(cloud: Path) -> list[str]:
    return (cloud / "launched").read_text().splitlines()


def test_script_parses():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    assert os.access(SCRIPT, os.X_OK)


def test_trains_and_hands_arguments_on(cloud):
    done = run(cloud, "0", "--config.optim.gen.lr=1e-4", "--classes=1, 2", WORKDIR="runs/a")
    assert done.returncode == 0, done.stderr
    assert launched(cloud) == [
        "launch.py --config=configs/dcgan_mnist.py --workdir=runs/a "
        "--config.optim.gen.lr=1e-4 --classes=1, 2"
    ]
    assert len(calls(cloud, "create")) == 1
    assert not calls(cloud, "delete")
    assert "costs money" in done.stdout


def test_saved_run_starts_again_and_mistakes_do_not(cloud):
    assert run(cloud, "75 75 0").returncode == 0
    assert len(launched(cloud)) == 3
    assert run(cloud, "1 0").returncode == 1
    assert len(launched(cloud)) == 4
    assert len(calls(cloud, "create")) == 1


def test_preempted_vm_is_made_again_and_the_run_comes_from_the_bucket(cloud):
    done = run(cloud, "75 preempted 0", WORKDIR="gs://bucket/runs/a", DELETE="1")
    assert done.returncode == 0, done.stderr
    assert len(calls(cloud, "create")) == 2
    assert len(calls(cloud, "delete")) == 2
    # the first saved run went up; the second was lost with its VM
    assert (cloud / "bucket/runs/a/config.json").read_text().split() == ["75", "0"]


def test_several_hosts_need_a_common_folder(cloud):
    hosts = {"HOST_LIST": "10.0.0.1;10.0.0.2"}
    done = run(cloud, "0", WORKDIR="runs/a", **hosts)
    assert done.returncode == 1
    assert "2 hosts" in done.stderr
    assert not (cloud / "launched").exists()


def test_several_hosts_share_a_bucket(cloud):
    """launch.py itself copies there."""
    more = {"HOST_LIST": "10.0.0.1;10.0.0.2", "SYNC_SECONDS": "60"}
    done = run(cloud, "75 preempted 0", WORKDIR="gs://bucket/runs/a", **more)
    assert done.returncode == 0, done.stderr
    assert len(launched(cloud)) == 3
    for call in launched(cloud):
        assert "--workdir=gs://bucket/runs/a --config.run.sync_seconds=60 --distributed" in call
    assert not calls(cloud, "rsync")


def test_a_host_of_several_joins_the_others(cloud):
    """What the script runs on each host of a slice; several hosts of one machine have one home."""
    (cloud / "jobs").mkdir()
    script = shutil.copy(SCRIPT, cloud / "jobs")
    (cloud / "plan").write_text("75\n0\n")
    subprocess.run(["bash", str(cloud / "uv")], cwd=cloud, check=True)
    for hosts, flag, status in (("4", " --distributed", 75), ("1", "", 0)):
        settings = {"HOSTS": hosts, "WORKDIR": str(cloud / "run"), "HOME": str(cloud)}
        environment = {**os.environ, "CLOUD": str(cloud), **settings}
        done = subprocess.run(["bash", script, "--on-worker", "--budget=1h"], env=environment)
        assert done.returncode == status == int((cloud / "status").read_text())
        (call,) = launched(cloud)
        assert call.endswith(f"--workdir={cloud / 'run'}{flag} --budget=1h")
        (cloud / "launched").unlink()


def test_bucket_that_does_not_answer_is_not_an_empty_one(cloud):
    (cloud / "bucket").rmdir()
    assert run(cloud, "0", WORKDIR="gs://bucket/runs/a").returncode == 1
    assert not (cloud / "launched").exists()
