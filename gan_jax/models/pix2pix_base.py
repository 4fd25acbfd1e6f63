"""What the generators and the discriminators of pix2pix have in common."""

from collections.abc import Callable

import flax.linen as nn
from jax import Array
from jax.nn import initializers

from gan_jax.models.layers import BatchNorm, Conv, ConvTranspose, initializer, instance_norm

NORMS = ("batch", "instance", "none")
INITS = ("normal", "xavier", "kaiming", "orthogonal")
WIDEST = 8  # channels grow up to this many times the width


class Backbone(nn.Module):
    """What generators and discriminators share: width, norm, and how weights start.

    init_name: normal (of deviation init_gain), xavier (scaled by init_gain), kaiming, orthogonal
    (scaled by init_gain). torch_bias: biases start as in PyTorch, otherwise at 0. dtype: the
    precision of all layers but the last, whose output is float32.
    """

    width: int = 64
    norm: str = "batch"
    init_name: str = "normal"
    init_gain: float = 0.02
    torch_bias: bool = False
    dtype: str = "float32"

    def weights(self, fan_in: int, transposed: bool = False) -> dict[str, Callable[..., Array]]:
        """Kernel and bias initialisers of a layer; if transposed, fan-in and fan-out are swapped as
        in PyTorch."""
        # kernels are [kh, kw, in, out]; PyTorch takes the fan-in from the second axis of its own
        # [out, in, kh, kw], and also from that of [in, out, kh, kw] if the layer is transposed
        axes = dict(in_axis=-1, out_axis=-2) if transposed else {}
        gain = self.init_gain
        kernel = {
            "normal": lambda: initializers.normal(gain),
            "xavier": lambda: initializers.variance_scaling(gain**2, "fan_avg", "normal", **axes),
            "kaiming": lambda: initializers.variance_scaling(2.0, "fan_in", "normal", **axes),
            "orthogonal": lambda: initializers.orthogonal(gain, -2 if transposed else -1),
        }[self.init_name]()
        bias = initializer("default").bias(fan_in) if self.torch_bias else initializers.zeros
        return dict(kernel_init=kernel, bias_init=bias)

    def conv(
        self,
        x: Array,
        name: str,
        features: int,
        kernel: int = 4,
        strides: int = 2,
        padding: int = 1,
        use_bias: bool = False,
    ) -> Array:
        """A convolution with this network's initialisation; stride 2 halves the size."""
        start = self.weights(kernel**2 * x.shape[-1])
        return Conv(features, kernel, strides, padding, use_bias, name=name, **start)(x)

    def deconv(self, x: Array, name: str, features: int, use_bias: bool = False) -> Array:
        """Twice the size: kernel 4, stride 2, padding 1."""
        start = self.weights(16 * features, transposed=True)
        return ConvTranspose(features, use_bias=use_bias, name=name, **start)(x)

    def normalise(self, x: Array, train: bool, name: str) -> Array:
        """Batch, instance or no norm. A 1x1 map is left as it is: instance norm would make it 0."""
        if self.norm == "none" or x.shape[1:3] == (1, 1):
            return x
        if self.norm == "instance":
            return instance_norm(x)
        return BatchNorm(weight_init="normal_0.02", name=name)(x, train)

    def channels(self, level: int) -> int:
        """Channels of level 1, 2, …: width, 2 width, … up to 8 width."""
        return self.width * min(2 ** (level - 1), WIDEST)
