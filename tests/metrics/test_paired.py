"""Figures of pairs of images."""

import numpy as np
import pytest

from gan_jax.metrics.paired import MOST_DB, PAIRED, paired
from gan_jax.ops import images as ops
from tests.helpers.pictures import squares


def pairs(channels=3):
    """Five images and what they should be."""
    wanted = squares(5, 12, channels=channels)
    made = np.clip(wanted + np.random.default_rng(1).normal(0, 20, wanted.shape), 0, 255)
    return made.astype(np.uint8), wanted


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_means_over_pairs(channels, size):
    made, wanted = pairs(channels)
    parts = [(made[i : i + size], wanted[i : i + size]) for i in range(0, 5, size)]
    found = paired(("l1", "psnr", "ssim"), parts)
    x, y = (np.asarray(ops.to_unit(image), np.float64) for image in (made, wanted))
    assert found["l1"] == pytest.approx(np.abs(x - y).mean(), rel=1e-6)
    assert found["psnr"] == pytest.approx(float(ops.psnr(made, wanted, 255).mean()), rel=1e-6)
    assert found["ssim"] == pytest.approx(float(ops.ssim(made, wanted, 255).mean()), rel=1e-5)
    assert list(found) == ["l1", "psnr", "ssim"]
    assert set(map(type, found.values())) == {float}


def test_equal_and_opposite_pairs():
    _, wanted = pairs()
    found = paired(("l1", "psnr", "ssim"), [(wanted, wanted)])
    assert found == {"l1": 0, "psnr": MOST_DB, "ssim": pytest.approx(1)}
    assert MOST_DB == 100
    black = np.zeros_like(wanted)
    found = paired(("l1", "psnr"), [(black, black + 255)])
    assert found == {"l1": pytest.approx(2), "psnr": pytest.approx(0, abs=1e-4)}
    # the limit is each pair's: one of four is equal
    found = paired(("psnr",), [(black[:1], black[:1]), (black[:3], black[:3] + 255)])
    assert found["psnr"] == pytest.approx(25)


@pytest.mark.parametrize("channels", [1, 3])
def test_lpips_gets_colours_from_minus_one_to_one(channels):
    made, wanted = pairs(channels)
    made[0, 0, 0], made[0, 0, 1] = 0, 255
    seen = []

    def lpips(x, y):
        seen.append((x, y))
        return np.arange(len(x), dtype=np.float32)

    found = paired(("lpips",), [(made[:2], wanted[:2]), (made[2:], wanted[2:])], lpips)
    assert found == {"lpips": (0 + 1 + 0 + 1 + 2) / 5}
    for place, images in enumerate((made, wanted)):
        given = np.concatenate([pair[place] for pair in seen])
        assert given.dtype == np.float32
        expected = np.broadcast_to(images / 127.5 - 1, (5, 12, 12, 3))
        np.testing.assert_allclose(given, expected, atol=1e-6)
    assert (seen[0][0].min(), seen[0][0].max()) == (-1, 1)


def test_pairs_that_cannot_be_compared():
    made, wanted = pairs()
    for other in (wanted[:3], wanted[:, :10], wanted[..., :1]):
        with pytest.raises(ValueError, match=r"one shape, found \[5, 12, 12, 3\] and \["):
            paired(("l1",), [(made, other)])
    with pytest.raises(ValueError, match="no pairs"):
        paired(tuple(PAIRED)[:3], [])
    with pytest.raises(ValueError, match="11 pixels or more, found 8"):
        paired(("ssim",), [(made[:, :8, :8], wanted[:, :8, :8])])
