#!/usr/bin/env bash
# Trains on several machines that Open MPI's mpirun reaches, one process for each of their slots.
# Run it on the first of them, which HOSTS begins with; docs/cluster.md describes it.
#
#   HOSTS=node1:1,node2:1 CONFIG=dcgan_cifar10 WORKDIR=/shared/runs/a \
#     jobs/openmpi.sh --config.optim.gen.lr=1e-4
#
# Arguments are passed to launch.py. The exit status is launch.py's: 75 after SIGTERM or Ctrl-C, with
# the state saved. The same command then goes on.
set -euo pipefail

HOSTS=${HOSTS:-localhost:2}               # host:slots, separated by commas
CONFIG=${CONFIG:-configs/dcgan_mnist.py}
WORKDIR=${WORKDIR:-runs/openmpi}          # on a file system that all hosts share
PYTHON=${PYTHON:-.venv/bin/python}

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# mpirun answers SIGTERM by reading no more of what its processes print, on which they wait until it
# kills them. SIGUSR1 it hands on, so that asks them to stop.
run() {  # run SIGNAL COMMAND...: runs a command, and sends it SIGNAL when this shell is asked to stop
  local signal=$1 status process
  shift
  # it hands SIGUSR1 to all that a process has started, and launch.py does not know that signal
  (if [[ $signal == TERM ]]; then trap "" USR1; fi; exec "$@") &
  process=$!
  # shellcheck disable=SC2064
  trap "kill -$signal $process 2>/dev/null || true" TERM INT USR1
  while true; do
    status=0
    wait "$process" || status=$?
    if ! kill -0 "$process" 2>/dev/null; then break; fi  # otherwise the signal ended only the wait
  done
  exit "$status"
}

cd "$ROOT"
if [[ ${1:-} == --on-host ]]; then
  shift
  run TERM "$@"
fi
# otherwise mpirun binds each process to one core
run USR1 mpirun --host "$HOSTS" --bind-to none bash "$ROOT/jobs/openmpi.sh" --on-host \
  "$PYTHON" launch.py --config="$CONFIG" --workdir="$WORKDIR" "$@"
