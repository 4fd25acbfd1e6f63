"""FID, KID, precision and recall of two sets, by gan_jax and by torch-fidelity, in one run.

    pip install -r benchmarks/requirements-fidelity.txt
    python -m benchmarks.torch_fidelity_table --inception=default_1.pt --real=DIR --fake=DIR

Both read the same images and the same weights. The weights of the file are rewritten under
torch-fidelity's names, with zeros for the logits if the file has none, so the Inception Score is
not compared. `--real` and `--fake` are folders, zips or npz files of images of one size.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch_fidelity

from gan_jax import log
from gan_jax.data.image_set import ImageSet, open_set
from gan_jax.evaluation import comparison
from gan_jax.evaluation.options import Options
from gan_jax.interop import inception
from gan_jax.interop.formats import torch_file
from gan_jax.models.inception import CLASSES, EPSILON, layers

NAMES = {
    "fid": "frechet_inception_distance",
    "kid": "kernel_inception_distance_mean",
    "kid_std": "kernel_inception_distance_std",
    "precision": "precision",
    "recall": "recall",
    "f_score": "f_score",
}


class Images(torch.utils.data.Dataset):
    """A set in the form that torch-fidelity expects: uint8 [3, H, W] by number."""

    def __init__(self, images: ImageSet):
        pixels = np.concatenate(list(images.batches(256)))
        self.pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self.pixels[row].transpose(2, 0, 1).copy())


def write_weights(source: str, target: Path) -> None:
    """The network in torch-fidelity's form: its batch norms only add our biases."""
    params, tensors = inception.read(source).params, {}
    for name in layers():
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        tensors[f"{name}.conv.weight"] = kernel.transpose(3, 2, 0, 1)
        # ours has the norm in kernel and bias; 1 - eps makes the division by its deviation exact
        norm = {
            "weight": np.ones_like(bias),
            "bias": bias,
            "running_mean": np.zeros_like(bias),
            "running_var": np.full_like(bias, 1 - EPSILON),
            "num_batches_tracked": np.zeros((), np.int64),
        }
        tensors |= {f"{name}.bn.{leaf}": array for leaf, array in norm.items()}
    fc = params.get("fc", {"kernel": np.zeros((2048, CLASSES)), "bias": np.zeros(CLASSES)})
    tensors["fc.weight"] = fc["kernel"].T.astype(np.float32)
    tensors["fc.bias"] = fc["bias"].astype(np.float32)
    torch_file.write(target, tensors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inception", required=True, help="weights, as launch.py --inception")
    parser.add_argument("--real", required=True)
    parser.add_argument("--fake", required=True)
    parser.add_argument("--count", type=int, default=0, help="images of each set, 0: all")
    parser.add_argument("--kid_subset_size", type=int, default=1000)
    options = parser.parse_args()
    sets = {
        key: open_set(getattr(options, key), f"--{key}", options.count) for key in ("real", "fake")
    }
    size = min(options.kid_subset_size, *map(len, sets.values()))
    began = time.time()
    with log.silenced():
        ours = comparison.compare(
            options.real, options.fake, ("fid", "kid", "pr"),
            Options(
                inception=options.inception, count=options.count, kid_subset_size=size, few=True
            ),
        )["figures"]  # fmt: skip
    seconds = {"gan_jax": time.time() - began}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        write_weights(options.inception, weights)
        began = time.time()
        found = torch_fidelity.calculate_metrics(
            input1=Images(sets["fake"]), input2=Images(sets["real"]), cuda=False,
            fid=True, kid=True, prc=True, kid_subset_size=size,
            feature_extractor="inception-v3-compat", feature_layer_prc="2048",
            feature_extractor_weights_path=str(weights), cache=False, batch_size=32,
            save_cpu_ram=True,  # no processes are forked from this one
            verbose=False,
        )  # fmt: skip
    seconds["torch-fidelity"] = time.time() - began
    print(f"{len(sets['real'])} real, {len(sets['fake'])} others, KID subsets of {size}")
    print(f"{'':10}{'gan_jax':>14}{'torch-fidelity':>16}")
    for name, theirs in NAMES.items():
        print(f"{name:10}{ours[name]:>14.7g}{found[theirs]:>16.7g}")
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
