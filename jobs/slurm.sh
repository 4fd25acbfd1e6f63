#!/usr/bin/env bash
# Trains on a SLURM cluster. Submit it from the checkout; docs/cluster.md describes it.
#
#   CONFIG=dcgan_cifar10 WORKDIR=/shared/runs/a sbatch --nodes=2 --ntasks-per-node=1 \
#     --gpus-per-node=8 --cpus-per-task=32 jobs/slurm.sh --config.optim.gen.lr=1e-4
#
# Options of sbatch stand before the script's name and replace those below; arguments after it are
# passed to launch.py. A run that was stopped with its state saved is queued again and resumes.
#SBATCH --job-name=gan_jax
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --output=gan_jax-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@180
# 180 s before the time limit every process is asked to save the state and stop
set -euo pipefail

CONFIG=${CONFIG:-configs/dcgan_mnist.py}
WORKDIR=${WORKDIR:-runs/slurm}            # shared by all nodes, or in a bucket
PYTHON=${PYTHON:-.venv/bin/python}

AGAIN=75                                  # launch.py's exit status after a signal: the state is saved

cd "$SLURM_SUBMIT_DIR"
# a step does not inherit it from the job
if [[ -n ${SLURM_CPUS_PER_TASK:-} ]]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi

status=0
# processes that stop together do not end in the same second: none is killed because another ended
srun --kill-on-bad-exit=0 "$PYTHON" launch.py --config="$CONFIG" --workdir="$WORKDIR" "$@" \
  || status=$?
if [[ $status == "$AGAIN" ]]; then
  echo "stopped with the state saved; queued again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
