"""Single image files: orientation, pixels of more than 8 bits, and what is said of them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import image_set
from gan_jax.data.sources import decode
from gan_jax.data.sources.tfds import TfdsSource
from tests.helpers.data_sections import complaint, make, section
from tests.helpers.source_files import read


@pytest.mark.parametrize("tag", [(0x010E, (1.5,)), (0x0100, 1.5), (0x9286, 7), (0x8769, "x")])
def test_orientation_beside_odd_tags(tmp_path, tag):
    """A good JPEG, one tag of an unusual type: it is turned as viewers show it."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 250
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(pixels)
    try:
        exif[tag[0]] = tag[1]
        image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    except Exception:  # Pillow cannot write this one: by hand below
        image.save(tmp_path / "a.jpg", exif=odd_exif(tag[0]), quality=95)
    shown, shape = read(tmp_path / "a.jpg")
    assert shown.shape == shape == (16, 8, 3)
    assert shown[:6].min() > 200
    assert shown[-6:].max() < 50


def odd_exif(tag: int) -> bytes:
    """Orientation 6, and `tag` as one float in a place where another type belongs."""
    entries = sorted([(0x0112, 3, 6 << 0), (tag, 11, 0x3FC00000)])
    body = b"".join(
        t.to_bytes(2, "little") + k.to_bytes(2, "little") + (1).to_bytes(4, "little")
        + v.to_bytes(4, "little")
        for t, k, v in entries
    )  # fmt: skip
    head = b"Exif\0\0II*\0\x08\0\0\0" + len(entries).to_bytes(2, "little")
    return head + body + b"\0\0\0\0"


def test_tiffs_are_turned_once(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 250
    Image.fromarray(pixels).save(tmp_path / "a.tif", tiffinfo={0x0112: 6})
    shown, shape = read(tmp_path / "a.tif")
    assert shown.shape == shape == (16, 8, 3)
    assert shown[:6].min() > 200


@pytest.mark.parametrize(("bits", "expected"), [(16, [255, 0, 252]), (12, [255, 0, 193])])
def test_tiffs_that_store_white_as_zero_are_turned_around(tmp_path, bits, expected):
    """With 16 bits as with 8, which Pillow does."""
    stored = np.array([[0, 2**bits - 1, 1000]], np.uint16)
    Image.fromarray(stored).save(tmp_path / "a.tif", tiffinfo={262: 0})
    shown = decode.reader((tmp_path / "a.tif").read_bytes(), "a.tif", bits)()
    assert shown.ravel().tolist() == expected


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_twelve_bits_are_announced_and_scaled(tmp_path, extension):
    for i in range(3):
        ramp = np.linspace(0, 4080 - i, 36).astype(np.uint16).reshape(6, 6)
        Image.fromarray(ramp).save(tmp_path / f"{i}.{extension}")
    said = make(**section(tmp_path)).description
    assert "end at 4,080" in said
    assert "config.data.deep_bits=12" in said
    assert "deep_bits=12" in image_set.open_set(str(tmp_path), "--real").remarks[0]
    made = make(**section(tmp_path, deep_bits=12))
    assert "deep_bits" not in made.description
    assert made.all("train")["image"].max() == 255
    assert "config.data.deep_bits=8" in complaint(**section(tmp_path, deep_bits=8))
    assert "config.data.deep_bits=17" in complaint(**section(tmp_path, deep_bits=17))


def test_twelve_bits_of_a_tfds_set():
    content = io.BytesIO()
    Image.fromarray(np.full((4, 4), 0xFF0, np.uint16)).save(content, "PNG")
    for bits, expected in ((16, 0x0F), (12, 0xFF)):
        source = TfdsSource([{"image": content.getvalue()}], (4, 4, 1), "x", bits)
        assert source.image(0)[0, 0].tolist() == source.reader(0)()[0, 0].tolist() == [expected]


def test_floating_point_and_dark_pictures(tmp_path):
    Image.fromarray(np.full((6, 6), 0.5, np.float32)).save(tmp_path / "a.tif")
    assert "floating-point pixels are not read" in complaint(**section(tmp_path))
    (tmp_path / "a.tif").unlink()
    Image.fromarray(np.full((6, 6), 60_000, np.uint16)).save(tmp_path / "a.png")
    said = make(**section(tmp_path, deep_bits=12)).description
    assert "grey values reach 60,000 here and all above 4,095 become white" in said
    assert "config.data.deep_bits=16" in said


def deep_png(path, values, colour):
    """A PNG of 16 bits a channel (colour type 2: RGB, 4: grey with alpha), which Pillow cannot
    write."""

    def chunk(name, data):
        whole = name + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    height, width, _ = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_pngs_of_sixteen_bits_have_the_channels_of_their_colours(tmp_path, colour, channels):
    """Grey with alpha is grey, as it is with 8 bits."""
    values = np.random.default_rng(0).integers(0, 2**16, (5, 7, channels)).astype(np.uint16)
    deep_png(tmp_path / "a.png", values, colour)
    shown, shape = read(tmp_path / "a.png")
    assert shown.shape == shape == (5, 7, {1: 1, 2: 1, 3: 3, 4: 3}[channels])
    np.testing.assert_array_equal(shown, values[:, :, : shape[2]] >> 8)


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2)])
def test_twelve_bits_in_colour_are_announced(tmp_path, colour, channels):
    deep_png(tmp_path / "a.png", np.full((6, 6, channels), 4000, np.uint16), colour)
    said = make(**section(tmp_path)).description
    assert "values of 16 bits end at 4,095 here" in said
    assert "saved with 8 bits" in said
    deep_png(tmp_path / "a.png", np.full((6, 6, channels), 60_000, np.uint16), colour)
    assert "values of 16 bits" not in make(**section(tmp_path)).description


def test_metrics_read_fewer_bits_when_told(tmp_path):
    Image.fromarray(np.full((6, 6), 4095, np.uint16)).save(tmp_path / "a.png")
    found = image_set.open_set(str(tmp_path), "--real")
    assert "deep_bits=12 gives them" in found.remarks[0]
    (batch,) = image_set.open_set(str(tmp_path), "--real", bits=12).batches(1)
    assert batch.max() == 255


def test_orientation_of_a_png_in_its_xmp(tmp_path):
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    Image.new("RGB", (16, 8)).save(tmp_path / "a.png", pnginfo=info)
    shown, shape = read(tmp_path / "a.png")
    assert shown.shape == shape


def test_pictures_that_are_merely_dim_are_not_announced(tmp_path):
    Image.fromarray(np.full((6, 6), 20_000, np.uint16)).save(tmp_path / "a.png")
    assert "16 bits" not in make(**section(tmp_path)).description
