"""Exports that lie or are damaged: a report with faults, whatever they hold, and a process that goes on."""

import random
import struct

import numpy as np
import pydicom
import pytest
from encoded import codestream, compress, series
from hostile import limited_memory
from pydicom import uid
from synthetic import oblique_grid
from written_series import fused_on, provenance, sources

from medfuse.dicom import DicomOptions, write_series
from medfuse.dicom.consistency import audit
from medfuse.verify import readers, verify

CODECS = {"rle": uid.RLELossless, "jpeg-ls": uid.JPEGLSLossless, "jpeg2000": uid.JPEG2000Lossless}


def jpeg_ls(frame, rows, columns):
    struct.pack_into(">HH", frame, frame.index(b"\xff\xf7") + 5, rows, columns)


def jpeg_2000(frame, rows, columns):
    struct.pack_into(">II", frame, 8, columns, rows)


def rle(frame, rows, columns):
    struct.pack_into("<I", frame, 8, 2**31)


LIES = {"jpeg-ls": jpeg_ls, "jpeg2000": jpeg_2000, "rle": rle}


@pytest.mark.parametrize("codec", LIES)
@pytest.mark.parametrize("consistent", [False, True])
def test_a_grey_codestream_that_lies_is_a_fault_and_reaches_no_decoder(tmp_path, codec, consistent):
    """Of 65535² pixels, in its own header alone and in that of the file, too."""

    def lie(header, place):
        frame = bytearray(codestream(header.pixel_array, CODECS[codec], 16))
        LIES[codec](frame, 65535, 65535)
        compress(header, [bytes(frame)], CODECS[codec])
        if consistent:
            header.Rows = header.Columns = 65535

    series(tmp_path, lie, shape=(40, 33, 4))
    with limited_memory():
        found = audit(tmp_path)
    assert found.series[0].values is None
    assert found.series[0].faults


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A coloured series, not compressed."""
    folder = tmp_path_factory.mktemp("plain")
    mri, _ = sources(folder / "study", oblique_grid((33, 36, 5)))
    write_series(fused_on(mri, 3), folder / "out", provenance=provenance())
    return mri, folder / "out"


@pytest.mark.parametrize("codec", CODECS)
def test_coloured_pictures_are_read_as_they_were_before_they_were_compressed(plain, tmp_path, codec):
    mri, out = plain
    write_series(fused_on(mri, 3), tmp_path, provenance=provenance(), options=DicomOptions(compression=codec))
    (before,), (found,) = audit(out).series, audit(tmp_path).series
    assert found.values.shape[-1] == 3
    assert np.array_equal(found.values, before.values)


@pytest.mark.parametrize("codec", LIES)
def test_a_coloured_codestream_that_lies_is_a_fault_and_reaches_no_decoder(plain, tmp_path, codec):
    write_series(fused_on(plain[0], 3), tmp_path, provenance=provenance(), options=DicomOptions(compression=codec))
    path = sorted(tmp_path.iterdir())[2]
    header = pydicom.dcmread(path)
    frame = bytearray(next(pydicom.encaps.generate_frames(header.PixelData, number_of_frames=1)))
    LIES[codec](frame, 65535, 65535)
    compress(header, [bytes(frame)], CODECS[codec])
    header.save_as(path)
    with limited_memory():
        (found,) = audit(tmp_path).series
    assert found.values is None
    assert any("instance 3" in fault for fault in found.faults)


def test_what_ends_other_programs_is_a_fault_of_the_export(tmp_path):
    """The lie that ended the process that SimpleITK and GDCM were called in."""

    def lie(header, place):
        frame = bytearray(codestream(header.pixel_array, uid.JPEGLSLossless, 16))
        jpeg_ls(frame, 65535, 65535)
        compress(header, [bytes(frame)], uid.JPEGLSLossless)
        header.Rows = header.Columns = 65535

    series(tmp_path, lie, shape=(40, 33, 4))
    report = verify(tmp_path)
    assert not report.passed
    assert {one.verdict for one in report.readings} == {"cannot read"}


@pytest.mark.parametrize("program", ["import os; os.abort()", "bytes(2**40)"])
def test_a_reader_that_ends_its_process_or_takes_all_memory_is_told(tmp_path, monkeypatch, program):
    script = tmp_path / "reader.py"
    script.write_text(program)
    monkeypatch.setattr(readers, "__file__", str(script))
    with pytest.raises(readers.ReadingError, match="it stopped"):
        readers.read("SimpleITK", [script])


@pytest.mark.parametrize("seed", range(20))
def test_random_damage_is_a_fault_or_none(plain, tmp_path, seed):
    chance = random.Random(seed)
    for number, path in enumerate(sorted(plain[1].iterdir())):
        content = bytearray(path.read_bytes())
        for _ in range(chance.choice((1, 5, 30)) if number % 2 else 0):
            place = chance.randrange(132, 3000)
            if chance.random() < 0.5:
                content[place] = chance.randrange(256)
            else:
                content[place : place + 4] = struct.pack("<I", chance.choice((0, 1, 0xFFFFFFFF, 0x7FFFFFFF)))
        (tmp_path / path.name).write_bytes(content)
    with limited_memory():
        found = audit(tmp_path)
    assert all("\n" not in fault for fault in found.faults)


def test_a_file_that_says_nothing_is_a_fault(tmp_path):
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    assert audit(tmp_path).faults


@pytest.mark.parametrize("number", [0, 2])
def test_a_file_that_is_cut_in_its_header_is_a_fault(plain, tmp_path, number):
    for place, path in enumerate(sorted(plain[1].iterdir())):
        content = path.read_bytes()
        end = content.index(b"\x28\x00\x10\x00US")  # Rows
        (tmp_path / path.name).write_bytes(content[:end] if place == number else content)
    assert audit(tmp_path).faults
