"""Pictures are looked at before they are decoded: sizes, kinds, transparency, damage."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from hostile import limited_memory
from PIL import Image

from medfuse.errors import SeriesError, TrainingError
from medfuse.gesenet.training import dataset
from medfuse.intensity.picture_files import read_picture

GREY = np.random.default_rng(1).integers(0, 255, (32, 24), dtype=np.uint8)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, *more):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(10**6)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + pixels + chunk(b"IEND", b"")


STREAM = io.BytesIO()
Image.fromarray(GREY).save(STREAM, format="PNG")
WHOLE = STREAM.getvalue()

HOSTILE = {
    "bomb": (png(60_000, 60_000), "says that it has 60000 × 60000 pixels"),
    "below Pillow's own limit": (png(12_000, 9_000), "says that it has 12000 × 9000 pixels"),
    "all bits": (png(2**31 - 1, 2**31 - 1), "pixels"),
    "text": (png(32, 24, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**28)))), "no readable picture"),
    "cut": (WHOLE[: len(WHOLE) // 2], "no readable picture"),
    "head": (WHOLE[:20], "no readable picture"),
    "empty": (b"", "no readable picture"),
    "PostScript, which other programs would be started for": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no readable picture"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pictures_are_refused_without_memory(tmp_path, name):
    content, said = HOSTILE[name]
    (tmp_path / "a.png").write_bytes(content)
    with limited_memory(), pytest.raises(SeriesError, match=said) as refused:
        read_picture(tmp_path / "a.png")
    assert len(str(refused.value).splitlines()) == 1


def test_pillow_says_nothing_of_its_own_of_a_bomb(tmp_path):
    (tmp_path / "a.png").write_bytes(HOSTILE["below Pillow's own limit"][0])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(SeriesError):
            read_picture(tmp_path / "a.png")
    assert said == []


def test_what_is_not_one_opaque_picture_of_8_bits_is_refused(tmp_path):
    grey = Image.fromarray(GREY)
    grey.save(tmp_path / "moving.png", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    grey.save(tmp_path / "pages.tif", save_all=True, append_images=[grey])
    Image.fromarray(GREY.astype(np.uint16) * 200).save(tmp_path / "deep.png")
    veiled = grey.convert("RGBA")
    veiled.putalpha(100)
    veiled.save(tmp_path / "veiled.png")
    grey.save(tmp_path / "gif.png", format="GIF")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name, said in {
        "moving.png": "holds 2 pictures",
        "pages.tif": "holds 2 pictures",
        "deep.png": "holds I;16 values",
        "veiled.png": "partly transparent",
        "gif.png": "no readable picture",
        "folder.png": "no such file",
        "pipe.png": "no such file",
        "absent.png": "no such file",
        "a\0b.png": "no such file",
    }.items():
        with pytest.raises(SeriesError, match=said):
            read_picture(tmp_path / name)
        with pytest.raises(TrainingError, match=said):
            dataset.read_picture(tmp_path / name)


def test_palettes_and_what_is_transparent_and_black_are_read_as_they_look(tmp_path):
    grey = Image.fromarray(GREY)
    opaque = grey.convert("RGBA")
    hollow = Image.fromarray(np.dstack([GREY] * 3 + [np.where(GREY > 0, 255, 0).astype(np.uint8)]))
    for name, picture in {"p": grey.convert("P"), "la": grey.convert("LA"), "rgba": opaque, "hollow": hollow}.items():
        picture.save(tmp_path / f"{name}.png")
        luma, colours = read_picture(tmp_path / f"{name}.png")
        assert colours is None
        np.testing.assert_array_equal(luma[0].numpy(), GREY)
    rgb = np.dstack([GREY, GREY // 2, GREY // 3])
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "rgb.png")[1].numpy(), np.moveaxis(rgb, -1, 0))
