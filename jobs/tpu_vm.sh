#!/usr/bin/env bash
# Trains on a Cloud TPU VM: creates the VM, copies this checkout to each of its hosts, runs launch.py
# there, and starts again after a preemption. Run it on a machine with gcloud; docs/tpu_vm.md
# describes what has to be set up first.
#
#   NAME=gan ZONE=us-central2-b TYPE=v4-8 CONFIG=configs/dcgan_cifar10.py \
#     WORKDIR=gs://bucket/runs/a jobs/tpu_vm.sh --config.optim.gen.lr=1e-4
#
# Arguments are passed to launch.py. Running the script again follows a run that is in progress, and
# resumes one that is not. The exit status is launch.py's, or 1 for an error of this script.
set -euo pipefail

NAME=${NAME:-gan-jax}                     # name of the TPU VM
ZONE=${ZONE:-us-central2-b}
TYPE=${TYPE:-v4-8}                        # accelerator type
VERSION=${VERSION:-tpu-ubuntu2204-base}   # image; v5e v2-alpha-tpuv5-lite, v6e v2-alpha-tpuv6e
SPOT=${SPOT:-1}                           # 1: cheaper, but may be preempted at any time
CONFIG=${CONFIG:-configs/dcgan_mnist.py}
WORKDIR=${WORKDIR:-runs/tpu}              # gs://bucket/folder, or a path on the VM
NFS=${NFS:-}                              # server:/share, mounted on every host at /mnt/share
PYTHON=${PYTHON:-3.12}                    # the image's own Python is too old
DELETE=${DELETE:-0}                       # 1: delete the VM when the run has finished
POLL_SECONDS=${POLL_SECONDS:-60}
SYNC_SECONDS=${SYNC_SECONDS:-300}         # time between copies to gs://
CREATE_TRIES=${CREATE_TRIES:-30}          # capacity may be unavailable for a while

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
AGAIN=75                                  # launch.py's exit status after a signal: the state is saved

fail() { echo "error: $*" >&2; exit 1; }

# --- on the machine with gcloud ---------------------------------------------------------------

tpu() { local verb=$1; shift; gcloud compute tpus tpu-vm "$verb" "$NAME" --zone="$ZONE" "$@"; }

on() { tpu ssh --worker="$1" --command="$2"; }

state() { tpu describe --format='value(state)' 2>/dev/null || echo NONE; }

make_vm() {
  local tries=0 options=(--accelerator-type="$TYPE" --version="$VERSION")
  if [[ $SPOT == 1 ]]; then options+=(--spot); fi
  while true; do
    case $(state) in
      READY) return ;;
      PREEMPTED | TERMINATED) tpu delete --quiet ;;
      STOPPED) tpu start ;;
      NONE)
        tries=$((tries + 1))
        if ! tpu create "${options[@]}"; then
          if [[ $tries -ge $CREATE_TRIES ]]; then fail "no $TYPE in $ZONE after $tries tries"; fi
          sleep "$POLL_SECONDS"
        fi ;;
      *) sleep "$POLL_SECONDS" ;;
    esac
  done
}

count_hosts() {
  tpu describe --format='csv[no-heading](networkEndpoints[].ipAddress)' | tr ';' '\n' | wc -l
}

install() {
  local archive
  archive=$(mktemp)
  (cd "$ROOT" && git ls-files -z --cached --others --exclude-standard | tar --null -T - -czf "$archive")
  gcloud compute tpus tpu-vm scp "$archive" "$NAME:gan_jax.tar.gz" --zone="$ZONE" --worker=all
  rm -f "$archive"
  # shellcheck disable=SC2016
  on all 'set -e; mkdir -p gan_jax; tar -xzf gan_jax.tar.gz -C gan_jax; cd gan_jax
    python3 -m pip install --quiet --user uv
    uv=$HOME/.local/bin/uv
    $uv venv --quiet --allow-existing --python '"$PYTHON"' .venv
    $uv pip install --quiet -e ".[tpu,gcs]"'
  if [[ -n $NFS ]]; then
    on all "mountpoint -q /mnt/share || { sudo apt-get -qq update; sudo apt-get -qq install -y nfs-common
      sudo mkdir -p /mnt/share; sudo mount -t nfs '$NFS' /mnt/share; sudo chmod 777 /mnt/share; }"
  fi
}

start() {
  local hosts=$1 settings arguments=""
  shift
  settings=$(printf '%q ' "CONFIG=$CONFIG" "WORKDIR=$WORKDIR" "SYNC_SECONDS=$SYNC_SECONDS" "HOSTS=$hosts")
  if [[ $# -gt 0 ]]; then arguments=$(printf '%q ' "$@"); fi
  # a process of the previous run may still be waiting for a host that was lost
  # shellcheck disable=SC2016
  on all 'if [ -f pid ]; then
      for _ in $(seq 240); do kill -0 "$(cat pid)" 2>/dev/null || break; sleep 0.5; done
      kill -KILL -- "-$(cat pid)" 2>/dev/null || true
    fi'
  # detached, so that a lost connection does not end the training
  on all "rm -f status; setsid nohup env $settings bash gan_jax/jobs/tpu_vm.sh --on-worker $arguments \
    > log 2>&1 < /dev/null & echo \$! > pid"
}

poll() {  # prints launch.py's exit status on the first host, or running, gone or none
  # shellcheck disable=SC2016
  on 0 'if [ -f status ]; then cat status
    elif [ ! -f pid ]; then echo none
    elif kill -0 "$(cat pid)" 2>/dev/null; then echo running
    else echo gone; fi' 2>/dev/null | grep -Eo '^([0-9]+|running|gone|none)$' | tail -n 1 || true
}

follow() {  # sets FOUND to an exit status, or to gone
  while true; do
    FOUND=$(poll)
    case $FOUND in
      running) on 0 'tail -n 1 log' || true ;;
      "") if [[ $(state) != READY ]]; then FOUND=gone; return; fi ;;  # else: only the connection failed
      *) return ;;
    esac
    sleep "$POLL_SECONDS"
  done
}

main() {
  local hosts
  if [[ $WORKDIR != gs://* && -z $NFS && $SPOT == 1 ]]; then
    echo "WORKDIR=$WORKDIR is on the VM's own disk: a preemption takes the run with it" >&2
  fi
  while true; do
    make_vm
    hosts=$(count_hosts)
    if [[ $hosts -gt 1 && $WORKDIR != /mnt/share/* && $WORKDIR != gs://* ]]; then
      fail "$TYPE has $hosts hosts and WORKDIR=$WORKDIR is not common to them; name gs://bucket/folder," \
        "or set NFS=server:/share and a WORKDIR under /mnt/share"
    fi
    if [[ $(poll) != running ]]; then
      install
      start "$hosts" "$@"
    fi
    follow
    case $FOUND in
      0) break ;;
      gone | "$AGAIN") echo "stopped ($FOUND); starting again from the newest checkpoint" ;;
      *) on 0 'tail -n 20 log' || true; exit "$FOUND" ;;
    esac
  done
  on 0 'tail -n 8 log'
  if [[ $DELETE == 1 ]]; then
    tpu delete --quiet
  else
    echo "the VM is still there and costs money: gcloud compute tpus tpu-vm delete $NAME --zone=$ZONE"
  fi
}

# --- on a host of the TPU VM ------------------------------------------------------------------

upload() {
  gcloud storage rsync --recursive --exclude='.*orbax-checkpoint-tmp.*|.*\.lock$' "$1" "$WORKDIR"
}

on_worker() {
  local folder=$WORKDIR flags=() status=0 copier="" run
  cd "$ROOT"
  if [[ $WORKDIR == gs://* && ${HOSTS:?} -gt 1 ]]; then  # launch.py gives each host a copy
    flags+=(--config.run.sync_seconds="$SYNC_SECONDS")
  elif [[ $WORKDIR == gs://* ]]; then  # copied here, and so after a kill of launch.py as well
    folder=$HOME/run
    mkdir -p "$folder"
    # a folder that is empty in the bucket means a new run, but a bucket that does not answer does not
    gcloud storage ls "gs://$(cut -d/ -f3 <<< "$WORKDIR")" > /dev/null || finish 1
    if gcloud storage ls "$WORKDIR/config.json" > /dev/null 2>&1; then
      gcloud storage rsync --recursive "$WORKDIR" "$folder" || finish 1
    fi
    (while sleep "$SYNC_SECONDS"; do upload "$folder" || true; done) &
    copier=$!
  fi
  if [[ ${HOSTS:?} -gt 1 ]]; then flags+=(--distributed); fi
  .venv/bin/python launch.py --config="$CONFIG" --workdir="$folder" "${flags[@]}" "$@" &
  run=$!
  trap 'kill -TERM "$run"' TERM  # a preempted VM sends SIGTERM to its processes first
  while true; do
    status=0
    wait "$run" || status=$?
    if ! kill -0 "$run" 2>/dev/null; then break; fi  # otherwise the signal ended only the wait
  done
  if [[ -n $copier ]]; then
    kill "$copier" 2>/dev/null || true
    upload "$folder" || status=1
  fi
  finish "$status"
}

finish() { echo "$1" > "$HOME/status"; exit "$1"; }

if [[ ${1:-} == --on-worker ]]; then
  shift
  on_worker "$@"
else
  main "$@"
fi
