"""Uncompressed .tar files as sources, and those inside them."""

import contextlib
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from gan_jax.errors import UserError
from tests.helpers.data_sections import complaint, make, section
from tests.helpers.source_files import class_folders, class_shades, shades


def tar_of(path, members):
    """A .tar of (name, content) pairs; TarInfo objects are added as they are."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def files_of(root):
    return [(p.relative_to(root).as_posix(), p.read_bytes()) for p in sorted(root.rglob("*.png"))]


def test_a_tar_is_read_like_the_folder(tmp_path):
    folder = make(**class_folders(tmp_path / "a"))
    whole = make(**section(tar_of(tmp_path / "a.tar", files_of(tmp_path / "a"))))
    assert shades(whole.all("train")) | shades(whole.all("validation")) == class_shades()
    for split in ("train", "validation"):
        for key, value in folder.all(split).items():
            np.testing.assert_array_equal(value, whole.all(split)[key])
    assert whole.class_names == ("ant", "cat")


def test_a_tar_of_tars_has_a_class_for_each(tmp_path):
    """As ImageNet is published."""
    class_folders(tmp_path / "a")
    inner = {}
    for name in ("cat", "ant"):
        path = tar_of(tmp_path / f"{name}.tar", files_of(tmp_path / "a" / name))
        inner[f"{name}.tar"] = path.read_bytes()
    inner |= {"._cat.tar": b"of macOS", "__MACOSX/cat.tar": b"of macOS", ".x/cat.tar": b"hidden"}
    made = make(**section(tar_of(tmp_path / "outer.tar", inner.items())))
    assert shades(made.all("train")) | shades(made.all("validation")) == class_shades()
    assert "hidden (2)" in made.description


def test_only_plain_files_inside_are_taken(tmp_path):
    good = io.BytesIO()
    Image.new("RGB", (6, 6)).save(good, "PNG")
    link, device = tarfile.TarInfo("link.png"), tarfile.TarInfo("device.png")
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.CHRTYPE
    members = [
        ("a.png", good.getvalue()),
        ("../b.png", good.getvalue()),
        (link, b""),
        (device, b""),
    ]
    members += [("c.png", good.getvalue()), ("c.png", good.getvalue())]
    made = make(**section(tar_of(tmp_path / "a.tar", members)))
    assert sum(made.sizes.values()) == 2
    for said in ("pipes, sockets or devices (2)", "lead out of the archive", "come twice"):
        assert said in made.description


def test_damaged_tars_end_in_one_line_or_in_images(tmp_path):
    class_folders(tmp_path / "a", count=2)
    path = tar_of(tmp_path / "a.tar", files_of(tmp_path / "a"))
    content, rng = path.read_bytes(), np.random.default_rng(0)
    negative = bytearray(content)
    negative[124:136] = b"\xff" * 12  # a size below 0, at which tarfile would go back for ever
    cases = [bytes(negative), content[:700], b"no tar"]
    for _ in range(60):
        raw = bytearray(content)
        place = int(rng.integers(len(raw) // 512)) * 512 + int(rng.integers(160))
        raw[place : place + 3] = rng.bytes(3)
        cases.append(bytes(raw))
    for case in cases[:3]:
        path.write_bytes(case)
        assert str(tmp_path) in complaint(**section(path))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        places = [info.offset for info in archive]
    for place in places[1:]:  # where tarfile would end without a word
        path.write_bytes(content[:place] + b"\xff" * 512 + content[place + 512 :])
        assert f"follows byte {place:,} is neither" in complaint(**section(path))
    for case in cases[3:]:
        path.write_bytes(case)
        with contextlib.suppress(UserError):
            make(**section(path, resize="crop"))


@pytest.mark.parametrize("ending", [".tar.gz", ".tgz"])
def test_a_packed_tar_is_no_place_to_train_from(tmp_path, ending):
    (tmp_path / f"a{ending}").write_bytes(b"packed")
    assert "neither a directory nor a .zip or .tar" in complaint(**section(tmp_path / f"a{ending}"))
