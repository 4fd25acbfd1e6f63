"""What the shapes of OpenAI's .pt files tell: golden networks, and every released file's layout."""

import dataclasses
import re

import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.interop import guided_diffusion
from tests.helpers import golden_rule

FOLDER = golden_rule.GOLDEN / "guided_diffusion"
NETWORKS = [
    f"{kind}/{path.stem}"
    for kind in ("unet", "classifier")
    for path in sorted((FOLDER / kind).glob("*.npz"))
]


def blank(shapes) -> dict[str, np.ndarray]:
    """Tensors of these names and shapes that take no memory."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes}


def options_of(network: str) -> dict:
    """What a golden network's options say, as `architecture` puts it."""
    given = golden_rule.load(f"guided_diffusion/{network}")[0]["options"]
    size = given.get("image_size", given.get("large_size"))
    multipliers = given.get("channel_mult") or DEFAULTS[size]
    if isinstance(multipliers, str):
        multipliers = multipliers.split(",")
    attention = given.get("attention_resolutions", given.get("classifier_attention_resolutions"))
    if isinstance(attention, str):
        attention = [size // int(side) for side in attention.split(",")]

    def option(*names, default=None):
        return next((given[name] for name in names if name in given), default)

    found = dict(
        channels=option("num_channels", "model_channels", "classifier_width"),
        in_channels=6 if "superres" in network else 3,
        num_classes=1000 if given.get("class_cond") else 0,
        multipliers=tuple(map(float, multipliers)),
        blocks=option("num_res_blocks", "classifier_depth"),
        attention=tuple(2**i for i in range(len(multipliers)) if 2**i in attention),
        resblock_updown=option("resblock_updown", "classifier_resblock_updown", default=False),
        scale_shift=option("use_scale_shift_norm", "classifier_use_scale_shift_norm"),
    )
    if network.startswith("unet"):
        kind = "super-resolution" if "superres" in network else "diffusion"
        learned = given.get("learn_sigma", False)
        outputs = 6 if learned else 3
        return found | dict(network=f"{kind} unet", out_channels=outputs, learn_sigma=learned)
    found["network"] = "noisy classifier"
    found["pool"] = option("pool", "classifier_pool")
    found["outputs"] = option("out_channels", default=1000)
    return found | ({"image_size": size} if found["pool"] == "attention" else {})


DEFAULTS = {
    64: (1, 2, 3, 4),
    128: (1, 1, 2, 3, 4),
    256: (1, 1, 2, 2, 4, 4),
    512: (0.5, 1, 1, 2, 2, 4, 4),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_architecture_is_what_the_options_were(network):
    described = golden_rule.load(f"guided_diffusion/{network}")[0]
    found = guided_diffusion.architecture(blank(described["state_dict"]))
    assert found == options_of(network)


def test_architecture_of_a_single_level():
    described, _ = golden_rule.load("guided_diffusion/trainstep/checkpoint")
    assert guided_diffusion.architecture(blank(described["state_dict"])) == dict(
        network="diffusion unet", channels=32, in_channels=3, num_classes=0, multipliers=(1.0,),
        blocks=0, attention=(), resblock_updown=None, scale_shift=True, out_channels=3,
        learn_sigma=False,
    )  # fmt: skip


@dataclasses.dataclass
class Layout:
    """The tensors of a U-Net, or with a `side` of a classifier with an attention pool."""

    channels: int
    multipliers: tuple[float, ...]
    blocks: int
    attention: tuple[int, ...]
    classes: int = 0
    inputs: int = 3
    outputs: int = 6
    side: int = 0
    strided: bool = False
    found: list[tuple[str, tuple[int, ...]]] = dataclasses.field(default_factory=list)

    def layer(self, name: str, *shape: int) -> None:
        self.found.extend([(f"{name}.weight", shape), (f"{name}.bias", shape[:1])])

    def residual(self, name: str, given: int, made: int) -> int:
        self.layer(f"{name}.in_layers.0", given)
        self.layer(f"{name}.in_layers.2", made, given, 3, 3)
        self.layer(f"{name}.emb_layers.1", 2 * made, 4 * self.channels)
        self.layer(f"{name}.out_layers.0", made)
        self.layer(f"{name}.out_layers.3", made, made, 3, 3)
        if given != made:
            self.layer(f"{name}.skip_connection", made, given, 1, 1)
        return made

    def attend(self, name: str, width: int) -> None:
        self.layer(f"{name}.norm", width)
        self.layer(f"{name}.qkv", 3 * width, width, 1)
        self.layer(f"{name}.proj_out", width, width, 1)

    @property
    def widths(self) -> list[int]:
        return [int(m * self.channels) for m in self.multipliers]

    def encoder(self) -> list[int]:
        """Its blocks; returns the channels of each."""
        self.layer("input_blocks.0.0", self.widths[0], self.inputs, 3, 3)
        skips = [self.widths[0]]
        for level, width in enumerate(self.widths):
            for _ in range(self.blocks):
                skips.append(self.residual(f"input_blocks.{len(skips)}.0", skips[-1], width))
                if 2**level in self.attention:
                    self.attend(f"input_blocks.{len(skips) - 1}.1", width)
            if level < len(self.widths) - 1:
                name = f"input_blocks.{len(skips)}.0"
                if self.strided:
                    self.layer(f"{name}.op", width, width, 3, 3)
                else:
                    self.residual(name, width, width)
                skips.append(width)
        return skips

    def pool(self, h: int) -> None:
        self.layer("out.0", h)
        self.found.append(("out.2.positional_embedding", (h, self.side**2 + 1)))
        self.layer("out.2.qkv_proj", 3 * h, h, 1)
        self.layer("out.2.c_proj", self.outputs, h, 1)

    def decoder(self, h: int, skips: list[int]) -> None:
        length = self.blocks + 1
        for i, width in enumerate(np.repeat(self.widths[::-1], length)):
            level = len(self.widths) - 1 - i // length
            h = self.residual(f"output_blocks.{i}.0", h + skips.pop(), int(width))
            attends = 2**level in self.attention
            if attends:
                self.attend(f"output_blocks.{i}.1", h)
            if level and i % length == self.blocks:
                self.residual(f"output_blocks.{i}.{1 + attends}", h, h)
        self.layer("out.0", h)
        self.layer("out.2", self.outputs, h, 3, 3)

    def tensors(self) -> dict[str, np.ndarray]:
        self.layer("time_embed.0", 4 * self.channels, self.channels)
        self.layer("time_embed.2", 4 * self.channels, 4 * self.channels)
        if self.classes:
            self.found.append(("label_emb.weight", (self.classes, 4 * self.channels)))
        skips = self.encoder()
        h = self.residual("middle_block.0", skips[-1], skips[-1])
        self.attend("middle_block.1", h)
        self.residual("middle_block.2", h, h)
        if self.side:
            self.pool(h)
        else:
            self.decoder(h, skips)
        return blank(self.found)


def layout(*arguments, **options) -> dict[str, np.ndarray]:
    """The state dict of a network as `Layout` describes it."""
    return Layout(*arguments, **options).tensors()


# the recipes of the paper's appendix, and the numbers of parameters of the networks they make
IMAGENET = dict(classes=1000)
CLASSIFIER = dict(outputs=1000, side=8)
RECIPES = {
    "64x64_diffusion.pt": (295_904_454, (192, DEFAULTS[64], 3, (2, 4, 8)), IMAGENET),
    "128x128_diffusion.pt": (421_529_606, (256, DEFAULTS[128], 2, (4, 8, 16)), IMAGENET),
    "256x256_diffusion.pt": (553_838_086, (256, DEFAULTS[256], 2, (8, 16, 32)), IMAGENET),
    "256x256_diffusion_uncond.pt": (552_814_086, (256, DEFAULTS[256], 2, (8, 16, 32)), {}),
    "lsun_bedroom.pt": (552_814_086, (256, DEFAULTS[256], 2, (8, 16, 32)), {}),
    "512x512_diffusion.pt": (558_997_638, (256, DEFAULTS[512], 2, (16, 32, 64)), IMAGENET),
    "64_256_upsampler.pt": (
        311_795_910, (192, DEFAULTS[256], 2, (8, 16, 32)), IMAGENET | dict(inputs=6),
    ),
    "128_512_upsampler.pt": (
        308_835_270, (192, DEFAULTS[256], 2, (16, 32)), IMAGENET | dict(inputs=6),
    ),
    "64x64_classifier.pt": (65_438_568, (128, DEFAULTS[64], 4, (2, 4, 8)), CLASSIFIER),
    "128x128_classifier.pt": (42_568_040, (128, DEFAULTS[128], 2, (4, 8, 16)), CLASSIFIER),
    "256x256_classifier.pt": (54_096_360, (128, DEFAULTS[256], 2, (8, 16, 32)), CLASSIFIER),
    "512x512_classifier.pt": (54_448_360, (128, DEFAULTS[512], 2, (16, 32, 64)), CLASSIFIER),
}  # fmt: skip


@pytest.mark.parametrize("file", RECIPES)
def test_released_files_tell_their_recipe(file):
    parameters, recipe, rest = RECIPES[file]
    tensors = layout(*recipe, **rest)
    assert sum(tensor.size for tensor in tensors.values()) == parameters
    found = guided_diffusion.architecture(tensors)
    released = guided_diffusion.RELEASED[file]
    assert found["network"] == released.role
    told = (found["channels"], found["multipliers"], found["blocks"], found["attention"])
    assert told == recipe
    assert found["num_classes"] == rest.get("classes", 0)
    assert found["resblock_updown"]
    assert found["scale_shift"]
    if released.role == "noisy classifier":
        assert found["image_size"] == int(re.search(r"x([0-9]+)_", file)[1])
        assert released.config == f"noisy_classifier_imagenet{found['image_size']}"
    else:
        assert found["learn_sigma"]


def test_every_released_file_has_a_config():
    assert len(guided_diffusion.RELEASED) == 15
    assert len({released[:2] for released in guided_diffusion.RELEASED.values()}) == 15
    plain = {file for file, released in guided_diffusion.RELEASED.items() if not released.variant}
    assert plain == {f for f in RECIPES if "uncond" not in f and "lsun" not in f}


@pytest.mark.parametrize(
    ("inputs", "outputs", "network", "learned"),
    [
        *[(n, n, "diffusion unet", False) for n in (1, 3, 4)],
        *[(n, 2 * n, "diffusion unet", True) for n in (1, 3, 4)],
        *[(2 * n, n, "super-resolution unet", False) for n in (1, 3, 4)],
        *[(2 * n, 2 * n, "super-resolution unet", True) for n in (1, 3, 4)],
    ],
)
def test_upsamplers_are_known_by_their_channels(inputs, outputs, network, learned):
    found = guided_diffusion.architecture(layout(32, (1, 2), 1, (), inputs=inputs, outputs=outputs))
    assert (found["network"], found["learn_sigma"]) == (network, learned)


def test_a_uniform_classifier_leaves_its_levels_open():
    tensors = layout(32, (1, 1), 1, (), outputs=10, side=4)
    found = guided_diffusion.architecture(tensors)
    assert [found[key] for key in ("multipliers", "blocks", "resblock_updown")] == [None] * 3
    assert "image_size" not in found
    found = guided_diffusion.architecture(layout(32, (1, 1), 1, (), side=4, strided=True))
    assert (found["multipliers"], found["blocks"], found["image_size"]) == ((1.0, 1.0), 1, 8)
    assert found["resblock_updown"] is False
    # another width is enough to see where a level begins
    found = guided_diffusion.architecture(layout(32, (1, 2), 1, (), side=4))
    assert (found["multipliers"], found["blocks"], found["attention"]) == ((1.0, 2.0), 1, ())
    # without blocks in its levels the encoder keeps the width of its stem
    found = guided_diffusion.architecture(layout(32, (1, 1, 1), 0, (), side=4, strided=True))
    assert (found["multipliers"], found["blocks"]) == ((1.0, 1.0, 1.0), 0)


def test_blocks_that_form_no_levels():
    described, _ = golden_rule.load("guided_diffusion/unet/unet_a_legacy_heads4")
    tensors = {
        name: tensor
        for name, tensor in blank(described["state_dict"]).items()
        if not name.startswith("output_blocks.1.2.conv")
    }
    with pytest.raises(UserError, match="no network of guided-diffusion has such levels: 4 input"):
        guided_diffusion.architecture(tensors)
