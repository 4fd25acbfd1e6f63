#!/usr/bin/env bash
# What a machine with a GPU shows in a few minutes, without a network. docs/performance.md reads it.
#
#   jobs/gpu_check.sh --out=runs/gpu_check --data=data --from=runs/earlier_check
#   jobs/gpu_check.sh --small                tries all of it out, on a CPU too
#
# 1. a slice of the tests on the GPU: golden networks and steps, and one device against itself
# 2. the table of training steps beside PyTorch, eager and compiled, TF32 and bfloat16
# 3. a profile of pix2pix, ProGAN and diffusion steps: whether the device waits between them
# 4. in the time that is left, trainings that go on from the states of an earlier check
#
#   --minutes=8       of all parts together
#   --out=DIR         everything that is made: logs, tables, runs/, and results/ of small files
#   --from=DIR        the --out of an earlier check, whose runs are copied and resumed
#   --data=DIR        holds facades/ and cifar10.npz; a training without its data is left out
#   --inception=FILE  weights of the Inception network, for FID; without them it is not measured
#   --small           tiny networks and data that need no files
#
# Relative places are those of the checkout.
#
# PYTHON names the interpreter, .venv/bin/python otherwise. The exit status is 1 if a part failed.
set -uo pipefail

minutes=8 out=runs/gpu_check from='' data=data inception='' small=''
for word in "$@"; do
  case $word in
    --minutes=*) minutes=${word#*=} ;;
    --out=*) out=${word#*=} ;;
    --from=*) from=${word#*=} ;;
    --data=*) data=${word#*=} ;;
    --inception=*) inception=${word#*=} ;;
    --small) small=--small ;;
    *) echo "error: $word: accepted are --minutes, --out, --from, --data, --inception, --small" >&2
       exit 2 ;;
  esac
done
if ! [[ $minutes =~ ^[1-9][0-9]*$ ]]; then
  echo "error: --minutes=$minutes: a whole number of minutes is expected" >&2
  exit 2
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
PYTHON=${PYTHON:-.venv/bin/python}
END=$((60 * minutes))
GRACE=30                                 # seconds in which a run saves its state when it is ended
AGAIN=75                                 # launch.py's exit status after a signal: the state is saved
failed=()
mkdir -p "$out/results" "$out/runs"
export PYTHONUNBUFFERED=1

left() { echo $((END - SECONDS)); }      # seconds of the whole check

# part NAME SECONDS COMMAND …: runs it for at most so long, and notes whether it failed
part() {
  local name=$1 most=$2 status=0
  shift 2
  if ((most > $(left))); then most=$(left); fi
  if ((most < 5)); then
    echo "$name: left out, no time is left"
    return
  fi
  echo "$name: at most $most s"
  timeout --signal=TERM --kill-after="$GRACE" "$most" "$@" > "$out/$name.log" 2>&1 || status=$?
  case $status in
    0) echo "$name: done after $SECONDS s" ;;
    124 | "$AGAIN") echo "$name: stopped when its time was over, after $SECONDS s" ;;
    *) echo "$name: failed with status $status, see $out/$name.log"
       tail -n 3 "$out/$name.log"
       failed+=("$name") ;;
  esac
}

"$PYTHON" -c 'import jax; print(f"{jax.device_count()} x {jax.devices()[0].device_kind}")' \
  | tee "$out/device.txt"

# 1. tests, with products in float32 as on the machine that made the numbers
slice=(tests/systems/test_{gan,pix2pix,progan,warpgan}_golden.py tests/models/test_unet.py
       tests/systems/test_contract.py
       -k "golden or unet or (straight_through and (dcgan_mnist or pix2pix_facades))")
if [[ $small ]]; then slice=(tests/systems/test_gan_golden.py); fi
if "$PYTHON" -c 'import pytest' 2> /dev/null; then
  platforms=$("$PYTHON" -c 'import jax; print({"gpu": "cuda,cpu"}.get(jax.default_backend(), "cpu"))')
  part tests $((END / 4)) env JAX_PLATFORMS="$platforms" JAX_DEFAULT_MATMUL_PRECISION=highest \
    "$PYTHON" -m pytest -q "${slice[@]}"
else
  echo "tests: left out, pytest is not installed"
fi

# 2. the table; it is written after every case, the most telling ones first
systems=pix2pix_256,progan_cifar_32,diffusion_32,sngan_32,all
seconds=3
if [[ $small ]]; then systems=gan_dense,classifier_28 seconds=0.2; fi
part bench $((END * 2 / 5)) "$PYTHON" -m benchmarks --system="$systems" --parts=step $small \
  --seconds="$seconds" --json="$out/bench.json" --remark="Measured by jobs/gpu_check.sh."
if [[ -f $out/bench.md ]]; then
  cp "$out/bench.md" "$out/bench.json" "$out/results/"
  cat "$out/bench.md"
fi

# 3. the profile
systems=pix2pix_256,progan,diffusion_32
if [[ $small ]]; then systems=dcgan_28; fi
part profile $((END / 8)) "$PYTHON" -m benchmarks.profile --system="$systems" $small \
  --out="$out/profile"
if [[ -f $out/profile/profile.md ]]; then
  cp "$out/profile/profile.md" "$out/profile/profile.json" "$out/results/"
  cat "$out/profile/profile.md"
fi

# 4. trainings: name, config, what its data are called, and for GANs the value by which the best
# state is chosen where FID is not measured
fid=()
if [[ $inception ]]; then
  fid=("--config.quality.metrics=fid" "--config.quality.inception=$inception"
       "--config.best.metric=fid" "--config.quality.samples=10000")
fi
trainings=("facades pix2pix_facades facades" "dcgan dcgan_cifar10 cifar10.npz val/gen"
           "sngan sngan_cifar10 cifar10.npz val/gen" "diffusion diffusion_cifar10 cifar10.npz")

# train SECONDS NAME CONFIG DATA [METRIC]: trains or resumes, and copies the small files that it made
train() {
  local most=$1 name=$2 config=$3 place=$data/$4 validated=${5:-} run=$out/runs/$2 newest
  local flags=("--config.run.keep=1")
  if [[ $small ]]; then
    config=$config:tiny
    flags+=("--config.run.quality_every=0" ${validated:+"--config.best.metric=$validated"})
  elif [[ ! -e $place ]]; then
    echo "$name: left out, there is no $place (--data)"
    return
  else
    flags+=("--config.data.path=$(realpath "$place")")
    case $name in
      facades) flags+=("--config.run.quality_every=0") ;;
      *) if [[ $inception ]]; then
           flags+=("${fid[@]}" "--config.run.quality_every=5000")
         else
           echo "$name: FID is not measured without --inception"
           flags+=("--config.run.quality_every=0" ${validated:+"--config.best.metric=$validated"})
         fi ;;
    esac
  fi
  if [[ $from && ! -e $run && -d $from/runs/$name ]]; then
    echo "$name: goes on from $from/runs/$name"
    cp -r "$from/runs/$name" "$run"
  fi
  part "train_$name" "$most" "$PYTHON" launch.py --config="$config" --workdir="$run" "${flags[@]}"
  mkdir -p "$out/results/$name"
  for file in "$run"/config.json "$run"/metrics.jsonl "$run"/*.html "$run"/*.png; do
    if [[ -f $file ]]; then cp "$file" "$out/results/$name/"; fi
  done
  newest=$(find "$run/samples" -type f 2> /dev/null | sort -V | tail -n 1)
  if [[ $newest ]]; then cp "$newest" "$out/results/$name/"; fi
}

rest=${#trainings[@]}
for training in "${trainings[@]}"; do
  read -ra words <<< "$training"
  train $((($(left) - GRACE) / rest)) "${words[@]}"
  rest=$((rest - 1))
done

du -sh "$out/results" "$out/runs" 2> /dev/null
if ((${#failed[@]})); then
  echo "failed: ${failed[*]}"
  exit 1
fi
echo "all parts ended well after $SECONDS s; what they made is in $out"
