#!/usr/bin/env bash
# Trains on several machines that Open MPI's mpirun reaches, one process for each of their slots.
# Run it on the first of them; docs/cluster.md describes it.
#
#   HOSTS=node1:1,node2:1 CONFIG=dcgan_cifar10 WORKDIR=/shared/runs/a \
#     jobs/openmpi.sh --config.optim.gen.lr=1e-4
#
# Arguments are passed to launch.py. The exit status is launch.py's, 75 after a signal with the
# state saved: the same command goes on.
set -euo pipefail

HOSTS=${HOSTS:-localhost:2}               # host:slots, separated by commas
CONFIG=${CONFIG:-configs/dcgan_mnist.py}
WORKDIR=${WORKDIR:-runs/openmpi}          # on a file system that all hosts share
PYTHON=${PYTHON:-.venv/bin/python}
GRACE=${GRACE:-180}                       # seconds to save the state in after SIGTERM

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# mpirun binds each process to one core, and kills a process one second after it was asked to end
exec mpirun --host "$HOSTS" --bind-to none --mca odls_base_sigkill_timeout "$GRACE" \
  "$PYTHON" launch.py --config="$CONFIG" --workdir="$WORKDIR" "$@"
