"""How pixels are stored: the right value, or a refusal that lists and readers agree on."""

import random
import struct
import warnings
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from encoded import codestream, compress, encapsulated, restate, series, store
from enhanced import enhance
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut

import medfuse
from medfuse.dicom import DicomOptions, scan
from medfuse.dicom.encoding import decode
from medfuse.dicom.writing import compression
from medfuse.errors import ExportError, MedfuseError, SeriesError

LITTLE = {"implicit": uid.ImplicitVRLittleEndian, "explicit": uid.ExplicitVRLittleEndian}


def values(folder):
    """Values by (slice, row, column), which a listing must have promised."""
    (found,) = scan(folder).series
    assert found.stack is not None, found.problem
    return medfuse.load(folder)[0].permute(2, 1, 0).numpy()


def refused(folder, *, listed=True):
    """Why a folder is refused, by reading and, where headers show it, by listing alike."""
    with pytest.raises(MedfuseError) as caught:
        medfuse.load(folder)
    scanned = scan(folder)
    assert not listed or scanned.damaged or not any(one.stack for one in scanned.series)
    message = str(caught.value)
    assert 20 < len(message) < 500
    assert "Phantom" not in message
    return message


@pytest.mark.parametrize("shape", [(9, 8, 4), (64, 64, 3), (107, 104, 2)])
@pytest.mark.parametrize(
    ("really", "claimed"), [("implicit", "explicit"), ("explicit", "implicit"), ("explicit", None)]
)
def test_a_wrong_claim_of_the_encoding_moves_no_pixel(tmp_path, shape, really, claimed):
    """22,256 bytes of pixels look like a length whose bytes spell no value representation; 22,351 would."""
    expected = series(tmp_path, shape=shape)
    for path in tmp_path.iterdir():
        header = pydicom.dcmread(path)
        header.file_meta.TransferSyntaxUID = LITTLE[really]
        header.save_as(path, implicit_vr=really == "implicit", little_endian=True)
        restate(path, LITTLE.get(claimed))
    np.testing.assert_array_equal(values(tmp_path), expected)
    assert scan(tmp_path).series[0].transfer_syntaxes == [LITTLE[really].name]


@pytest.mark.parametrize(
    "claimed", [uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian, uid.JPEGLSLossless, uid.RLELossless]
)
@pytest.mark.parametrize("really", list(LITTLE))
def test_a_claim_that_nothing_can_be_read_by_is_refused(tmp_path, really, claimed):
    series(tmp_path)
    for path in tmp_path.iterdir():
        header = pydicom.dcmread(path)
        header.file_meta.TransferSyntaxUID = LITTLE[really]
        header.save_as(path, implicit_vr=really == "implicit", little_endian=True)
        restate(path, claimed)
    refused(tmp_path)


@pytest.mark.parametrize("claimed", [*LITTLE.values(), uid.DeflatedExplicitVRLittleEndian])
def test_the_other_byte_order_is_named(tmp_path, claimed):
    series(tmp_path)
    for path in tmp_path.iterdir():
        header = pydicom.dcmread(path)
        if claimed != uid.DeflatedExplicitVRLittleEndian:
            pixels = header.pixel_array
            header.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
            header.PixelData = pixels.astype(">u2").tobytes()
            pydicom.dcmwrite(path, header, implicit_vr=False, little_endian=False, force_encoding=True)
        restate(path, claimed)
    assert "TransferSyntaxUID (0002,0010)" in refused(tmp_path, listed=False)
    found = scan(tmp_path)
    assert (found.misencoded, found.damaged, dict(found.incomplete)) == (4, 0, {})


@pytest.mark.parametrize("signed", [False, True])
def test_samples_with_more_bits_in_use_than_values_are_refused(tmp_path, signed):
    """Of 12 bits, the header gives 10 to the value: the others are no part of it, or the value is not whole."""

    def write(folder, change):
        def stored(header, place):
            cells = change((np.arange(72).reshape(8, 9) * 7 + place) % 512)
            store(header, cells.astype(np.uint16), 10, signed=signed)
            compress(header, [codestream(cells.astype(np.uint16), uid.JPEGLSLossless, 12)], uid.JPEGLSLossless)

        series(folder, stored)
        return folder

    assert values(write(tmp_path / "marked", lambda cells: cells | 0x800)).max() <= 511  # one mark for all
    used = write(tmp_path / "used", lambda cells: cells * 7 % 4096)
    assert "uses 12 bits of a sample, but BitsStored is 10" in refused(used)


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_floating_point_pixels_are_named(tmp_path, keyword):
    def floating(header, place):
        size = 4 if keyword == "FloatPixelData" else 8
        header.BitsAllocated = size * 8
        del header.PixelData, header.BitsStored, header.HighBit, header.PixelRepresentation
        setattr(header, keyword, bytes(72 * size))

    series(tmp_path, floating)
    assert "(7FE0,0008 and 0009) are not read" in refused(tmp_path)


@pytest.mark.parametrize("modality", ["CT", "PT"])
def test_a_rescale_that_one_slice_lost_is_refused(tmp_path, modality):
    def lose(header, place):
        header.RescaleSlope, header.RescaleIntercept = "2.5", "-1000" if modality == "CT" else "0"
        if place == 2:
            del header.RescaleSlope, header.RescaleIntercept

    series(tmp_path, lose, modality)
    assert "has no RescaleSlope (0028,1053), which other slices have" in refused(tmp_path)


def test_a_modality_that_contradicts_the_class_is_refused(tmp_path):
    series(tmp_path, lambda header, _: setattr(header, "Modality", "CT"))
    assert "Modality (0008,0060) of series 4 (CT) is CT, but its SOPClassUID" in refused(tmp_path)


def test_compressed_pixels_that_claim_to_be_uncompressed_are_refused(tmp_path):
    series(tmp_path, lambda header, _: header.compress(uid.RLELossless, generate_instance_uid=False))
    for path in tmp_path.iterdir():
        restate(path, uid.ExplicitVRLittleEndian)
    assert "encapsulated" in refused(tmp_path)


@pytest.mark.parametrize(
    "syntax", [uid.JPEG2000Lossless, uid.JPEGLosslessSV1, uid.RLELossless, uid.HTJ2K, uid.MPEG2MPML]
)
def test_a_codestream_of_another_kind_is_refused(tmp_path, syntax):
    series(tmp_path, lambda header, _: header.compress(uid.JPEGLSLossless, generate_instance_uid=False))
    for path in tmp_path.iterdir():
        restate(path, syntax)
    refused(tmp_path)


def test_without_its_package_a_compression_is_refused_with_its_name(tmp_path, monkeypatch):
    """As on a Python for which pyjpegls has no wheel."""
    series(tmp_path, lambda header, _: header.compress(uid.JPEGLSLossless, generate_instance_uid=False))
    codecs = SimpleNamespace(is_available=False, available_plugins=())
    monkeypatch.setattr(decode, "get_decoder", lambda _: codecs)
    with pytest.raises(SeriesError, match=r"JPEG-LS .* cannot be decoded without pyjpegls, which is not installed"):
        medfuse.load(tmp_path)
    monkeypatch.setattr(compression, "get_encoder", lambda _: codecs)
    with pytest.raises(ExportError, match=r"jpeg-ls needs pyjpegls, which is not installed.*none, rle, jpeg2000"):
        DicomOptions(compression="jpeg-ls")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "high"), [(12, 15), (12, 13), (8, 15), (12, 11)])
def test_the_value_lies_where_high_bit_says(tmp_path, bits, high, signed, compressed):
    lowest = -(1 << (bits - 1)) if signed else 0
    expected = [(np.arange(72).reshape(8, 9) * 91 + place) % (1 << bits) + lowest for place in range(4)]

    def left_justified(header, place):
        cells = (expected[place] & ((1 << bits) - 1)) << (high + 1 - bits)
        cells |= (0xA5A5 << (high + 1)) & 0xFFFF  # what lies above the value is nobody's
        store(header, cells.astype(np.uint16), bits, high, signed)
        if compressed:
            compress(header, [codestream(cells.astype(np.uint16), uid.RLELossless, 16)], uid.RLELossless)

    series(tmp_path, left_justified)
    np.testing.assert_array_equal(values(tmp_path), expected)


def test_bits_in_use_below_the_value_are_refused_but_for_an_overlay(tmp_path):
    def both(header, place):
        store(header, np.full((8, 9), 0x0123, np.uint16), 12, 15)

    series(tmp_path, both)
    assert "HighBit" in refused(tmp_path)
    for path in tmp_path.iterdir():
        header = pydicom.dcmread(path)
        store(header, np.full((8, 9), 0x0122, np.uint16), 12, 15)
        header.add_new((0x6000, 0x0100), "US", 16)
        header.add_new((0x6000, 0x0102), "US", 1)
        header.save_as(path)
    assert (values(tmp_path) == 0x12).all()


def test_an_overlay_within_the_value_is_refused(tmp_path):
    def both(header, place):
        header.add_new((0x6000, 0x0100), "US", 16)
        header.add_new((0x6000, 0x0102), "US", 15)

    series(tmp_path, both)
    assert "overlay" in refused(tmp_path)


J2K_AND_LS = [uid.JPEG2000Lossless, uid.JPEGLSLossless]


@pytest.mark.parametrize("syntax", J2K_AND_LS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("stream_signed", [False, True])
@pytest.mark.parametrize(("bits", "precision"), [(12, 12), (12, 16), (16, 16), (7, 8)])
def test_the_header_says_the_sign_of_a_codestream(tmp_path, syntax, bits, precision, signed, stream_signed):
    """JPEG-LS never says it; a JPEG 2000 codestream may say otherwise, for the same bits."""
    if syntax == uid.JPEGLSLossless and stream_signed:
        pytest.skip("JPEG-LS has no sign")
    size = 8 if precision <= 8 else 16
    lowest = -(1 << (bits - 1)) if signed else 0
    expected = [(np.arange(1320).reshape(33, 40) * 91 + place) % (1 << bits) + lowest for place in range(4)]

    def disagree(header, place):
        mask = (1 << (precision if signed else bits)) - 1
        words = expected[place] & mask
        if stream_signed:
            words = np.where(words >> (precision - 1) & 1, words - (1 << precision), words)
        cells = words.astype(f"{'i' if stream_signed else 'u'}{size // 8}")
        store(header, np.zeros((33, 40), f"u{size // 8}"), bits, None, signed)
        compress(header, [codestream(cells, syntax, precision, stream_signed)], syntax)

    series(tmp_path, disagree)
    np.testing.assert_array_equal(values(tmp_path), expected)


@pytest.mark.parametrize("syntax", J2K_AND_LS)
def test_fewer_bits_than_the_header_says_have_no_sign_of_their_own(tmp_path, syntax):
    cells = np.arange(1320, dtype=np.uint16).reshape(33, 40) * 3

    def fewer(header, place, signed):
        store(header, cells, 16, None, signed)
        compress(header, [codestream(cells, syntax, 12)], syntax)

    series(tmp_path / "a", lambda header, place: fewer(header, place, False))
    assert (values(tmp_path / "a") == cells).all()
    series(tmp_path / "b", lambda header, place: fewer(header, place, True))
    assert "PixelRepresentation" in refused(tmp_path / "b")


@pytest.mark.parametrize(
    ("modality", "stated"),
    [
        *((modality, "PALETTE COLOR") for modality in ("MR", "CT", "PT", "NM")),
        *(("MR", stated) for stated in ("RGB", "YBR_FULL", "YBR_FULL_422", "HSV", "XYZ")),
    ],
)
def test_colours_are_no_measured_values(tmp_path, modality, stated):
    series(tmp_path, lambda header, _: setattr(header, "PhotometricInterpretation", stated), modality)
    assert "colour" in refused(tmp_path)


@pytest.mark.parametrize("presentation", ["COLOR", "MIXED", "TRUE_COLOR"])
@pytest.mark.parametrize("level", ["file", "frame"])
def test_values_for_a_supplemental_palette_are_colours(tmp_path, presentation, level):
    series(tmp_path / "classic")
    enhance([tmp_path / "classic"], tmp_path / "enhanced" / "1.dcm")
    header = pydicom.dcmread(tmp_path / "enhanced" / "1.dcm")
    values(tmp_path / "enhanced")
    if level == "file":
        header.PixelPresentation = presentation
    else:
        kind = pydicom.Dataset()
        kind.PixelPresentation = presentation
        header.PerFrameFunctionalGroupsSequence[2].MRImageFrameTypeSequence = [kind]
    header.save_as(tmp_path / "enhanced" / "1.dcm")
    assert "colour" in refused(tmp_path / "enhanced")


@pytest.mark.parametrize("first", [0, 20, -1000, 64536])
@pytest.mark.parametrize(
    ("count", "bits", "packed"), [(1024, 16, "OW"), (1024, 12, "US"), (200, 8, "OW"), (0, 16, "OW")]
)
def test_a_modality_lut_says_the_values(tmp_path, first, count, bits, packed):
    kind = {16: "HU", 12: "US", 8: "OD"}[bits]
    entries = np.random.default_rng(1).integers(0, 1 << min(bits, 15), count or 65536)
    signed = first not in (0, 20)

    def with_table(header, place):
        del header.RescaleSlope, header.RescaleIntercept, header.RescaleType
        cells = np.arange(72).reshape(8, 9) * 17 + place - (1200 if signed else 0)
        store(header, cells.astype(np.int16 if signed else np.uint16), 16, None, signed)
        table = pydicom.Dataset()
        table.add_new("LUTDescriptor", "SS" if first < 0 else "US", [count, first, bits])
        data = entries.astype("<u2").tobytes() if bits > 8 else entries.astype("u1").tobytes()
        table.add_new("LUTData", packed, data if packed == "OW" else entries.tolist())
        table.ModalityLUTType = kind
        header.ModalityLUTSequence = [table]

    series(tmp_path, with_table, "CT")
    for place, path in enumerate(sorted(tmp_path.iterdir())):
        header = pydicom.dcmread(path)
        cells = header.pixel_array.astype(int) - (first - 65536 if first > 32767 else first)
        expected = entries[np.clip(cells, 0, len(entries) - 1)]
        np.testing.assert_array_equal(values(tmp_path)[place], expected)
        if bits == 16 and first < 32767:
            np.testing.assert_array_equal(apply_modality_lut(header.pixel_array, header), expected)
    assert medfuse.load(tmp_path).meta["unit"] == ("HU" if kind == "HU" else "arbitrary")


@pytest.mark.parametrize("what", ["rescale", "short", "bits", "no data", "empty", "two", "negative"])
def test_a_modality_lut_that_contradicts_is_refused(tmp_path, what):
    def with_table(header, place):
        if what != "rescale":
            del header.RescaleSlope, header.RescaleIntercept
        table = pydicom.Dataset()
        table.add_new("LUTDescriptor", "US", [16, 0, 8 if what == "bits" else 16])
        if what != "no data":
            table.add_new("LUTData", "OW", np.arange(990, 1000 if what == "short" else 1006).astype("<u2").tobytes())
        if what == "negative":
            table.LUTData = np.arange(-8, 8, dtype="<i2").tobytes()
        table.ModalityLUTType = "HU"
        header.ModalityLUTSequence = {"empty": [], "two": [table, table]}.get(what, [table])

    series(tmp_path, with_table, "CT")
    assert "ModalityLUTSequence" in refused(tmp_path)


@pytest.mark.parametrize("modality", ["PT", "NM"])
def test_a_modality_lut_whose_unit_is_not_said_is_refused(tmp_path, modality):
    def with_table(header, place):
        table = pydicom.Dataset()
        table.add_new("LUTDescriptor", "US", [16, 0, 16])
        table.add_new("LUTData", "OW", np.arange(16, dtype="<u2").tobytes())
        header.ModalityLUTSequence = [table]
        for keyword in ("RescaleSlope", "RescaleIntercept"):
            if keyword in header:
                delattr(header, keyword)

    series(tmp_path, with_table, modality)
    assert "ModalityLUTSequence" in refused(tmp_path)


@pytest.mark.parametrize(
    ("signed", "bits", "kind", "stated", "expected"),
    [
        (True, 16, "US", 63536, -2000),
        (True, 16, "SS", -2000, -2000),
        (True, 12, "US", 63536, -2000),
        (True, 12, "US", 2096, -2000),
        (False, 16, "SS", -2000, 63536),
        (False, 12, "US", 4095, 4095),
        (False, 12, "SS", -1, 4095),
    ],
)
def test_padding_is_of_the_sign_of_the_pixels(tmp_path, signed, bits, kind, stated, expected):
    def padded(header, place):
        store(header, np.zeros((8, 9), np.int16), bits, None, signed)
        header.add_new("PixelPaddingValue", kind, stated)

    series(tmp_path, padded, "CT")
    assert medfuse.load(tmp_path).meta["padding"] == expected - 1024


def test_padding_that_differs_by_slice_is_not_told(tmp_path):
    series(tmp_path, lambda header, place: header.add_new("PixelPaddingValue", "US", 3), "PT")
    assert "padding" not in medfuse.load(tmp_path).meta


@pytest.mark.parametrize(
    ("modality", "slope", "intercept"),
    [
        *(("MR", slope, "0") for slope in ("1e308", "1e38", "1e20", "1e-40", "0", "nan")),
        *(("CT", "1", intercept) for intercept in ("1e300", "-1e12", "inf")),
        ("PT", "1e308", "0"),
    ],
)
def test_a_rescale_to_no_number_is_refused(tmp_path, modality, slope, intercept):
    series(tmp_path, modality=modality)
    for path in tmp_path.iterdir():
        header = pydicom.dcmread(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for keyword, text in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
                header[keyword] = pydicom.DataElement(keyword, "LO", text)
                header[keyword].VR = "DS"
            header.save_as(path)
    assert "rescale" in refused(tmp_path)


@pytest.mark.parametrize(("slope", "intercept"), [("1e-9", "0"), ("30000", "0"), ("1", "-1024"), ("-2", "100")])
def test_a_rescale_that_scanners_write_is_taken(tmp_path, slope, intercept):
    def rescaled(header, place):
        header.RescaleSlope, header.RescaleIntercept = slope, intercept

    stored = series(tmp_path, rescaled)
    np.testing.assert_allclose(values(tmp_path), stored * float(slope) + float(intercept), rtol=1e-6)


@pytest.mark.parametrize(
    ("element", "value"),
    [
        *(("BitsStored", 17), ("BitsStored", 0), ("BitsAllocated", 12), ("BitsAllocated", 1), ("BitsAllocated", 64)),
        *(("HighBit", 3), ("HighBit", 16), ("PixelRepresentation", 2), ("Rows", 0), ("Rows", 7), ("Columns", 8)),
        *(("Columns", 10), ("BitsAllocated", 8), ("BitsAllocated", 32), ("PixelRepresentation", None)),
    ],
)
def test_a_description_that_contradicts_the_pixels_is_refused(tmp_path, element, value):
    def contradict(header, place):
        if value is None:
            delattr(header, element)
        else:
            setattr(header, element, value)

    series(tmp_path, contradict)
    message = refused(tmp_path)
    assert element in message or "matrix" in message or "axes" in message


def test_pixels_beyond_the_frames_are_refused_and_padding_is_not(tmp_path):
    expected = series(tmp_path, lambda header, _: setattr(header, "PixelData", header.PixelData + b"\0\0"))
    np.testing.assert_array_equal(values(tmp_path), expected)
    for path in tmp_path.iterdir():
        header = pydicom.dcmread(path)
        header.PixelData = header.PixelData[:-2] * 2
        header.save_as(path)
    assert "Pixel Data has" in refused(tmp_path)


@pytest.mark.parametrize("count", ["two", "0", "-3", "1.5", "1\\2"])
def test_a_number_of_frames_that_is_none_is_named(tmp_path, count):
    series(tmp_path)
    for path in tmp_path.iterdir():
        header = pydicom.dcmread(path)
        header.add_new("NumberOfFrames", "LO", count)
        header["NumberOfFrames"].VR = "IS"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header.save_as(path)
    assert "NumberOfFrames" in refused(tmp_path)


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData", "PixelDataProviderURL"])
def test_pixels_that_are_no_whole_numbers_are_refused(tmp_path, keyword):
    def other(header, place):
        cells = np.zeros(72, np.float32 if keyword == "FloatPixelData" else np.float64)
        del header.PixelData
        setattr(header, keyword, "https://example.org/1" if "URL" in keyword else cells.tobytes())

    series(tmp_path, other)
    assert "Pixel Data" in refused(tmp_path)


@pytest.mark.parametrize("shape", [(9, 8, 4), (9, 7, 4)])
@pytest.mark.parametrize(("bits", "kind"), [(8, "OW"), (8, "OB"), (16, "OW"), (32, "OW")])
def test_big_endian_cells_are_in_their_order(tmp_path, shape, bits, kind):
    expected = []

    def big(header, place):
        cells = (header.pixel_array * 1000 + place).astype(f">u{bits // 8}")
        expected.append(cells)
        store(header, cells, bits)
        content = cells.tobytes() + b"\0" * (cells.nbytes % 2)
        header.PixelData = content if kind == "OB" or bits > 8 else np.frombuffer(content, "<u2").byteswap().tobytes()
        header["PixelData"].VR = kind

    series(tmp_path, big, shape=shape)
    for path in tmp_path.iterdir():
        header = pydicom.dcmread(path)
        list(header.iterall())
        header.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
        pydicom.dcmwrite(path, header, implicit_vr=False, little_endian=False, force_encoding=True)
    np.testing.assert_array_equal(values(tmp_path), np.stack(expected).astype(np.float32))


CODECS = {"rle": uid.RLELossless, "jpeg-ls": uid.JPEGLSLossless, "jpeg 2000": uid.JPEG2000Lossless}


def compressed(folder, codec, change):
    """A series whose third file has its codestream, bytes, changed."""

    def one(header, place):
        frame = bytearray(codestream(header.pixel_array, CODECS[codec], 16))
        if place == 2:
            frame = change(frame)
        encapsulated(header, table() + item(bytes(frame) + b"\0" * (len(frame) % 2)), CODECS[codec])

    return series(folder, one, shape=(40, 33, 4))


def patched(frame, at, form, *numbers):
    struct.pack_into(form, frame, at, *numbers)
    return frame


@pytest.mark.parametrize(
    ("codec", "change"),
    [
        ("jpeg-ls", lambda frame: patched(frame, frame.index(b"\xff\xf7") + 5, ">HH", 65535, 65535)),
        ("jpeg-ls", lambda frame: patched(frame, frame.index(b"\xff\xf7") + 5, ">HH", 9, 8)),
        ("jpeg-ls", lambda frame: patched(frame, frame.index(b"\xff\xf7") + 9, "B", 2)),
        ("jpeg-ls", lambda frame: frame.replace(b"\xff\xf7", b"\xff\xf8\0\x07\4\0\0\0\0\xff\xf7", 1)),
        ("jpeg 2000", lambda frame: patched(frame, 8, ">II", 2**31, 2**31)),
        ("jpeg 2000", lambda frame: patched(frame, 8, ">II", 8, 9)),
        ("jpeg 2000", lambda frame: patched(frame, 24, ">II", 1, 1) and patched(frame, 8, ">II", 65535, 65535)),
        ("jpeg 2000", lambda frame: patched(frame, 40, ">H", 16384)),
        ("jpeg 2000", lambda frame: patched(frame, 42, "B", 37)),
        ("jpeg 2000", lambda frame: patched(frame, 43, "B", 0)),
        ("rle", lambda frame: patched(frame, 0, "<I", 15)),
        ("rle", lambda frame: patched(frame, 0, "<I", 2**32 - 1)),
        ("rle", lambda frame: patched(frame, 8, "<I", 2**31)),
        ("rle", lambda frame: patched(frame, 8, "<I", 64)),
        *((codec, lambda frame: frame[:20]) for codec in CODECS),
        *((codec, lambda frame: bytearray()) for codec in CODECS),
    ],
)
def test_a_codestream_that_lies_reaches_no_decoder(tmp_path, codec, change):
    compressed(tmp_path, codec, change)
    assert "instance 3" in refused(tmp_path)


@pytest.mark.parametrize("codec", CODECS)
def test_a_codestream_that_is_cut_short_is_refused(tmp_path, codec):
    compressed(tmp_path, codec, lambda frame: frame[: len(frame) * 3 // 4 // 2 * 2])
    refused(tmp_path, listed=False)


@pytest.mark.parametrize("codec", CODECS)
def test_damaged_codestreams_are_a_verdict(tmp_path, codec):
    """Bytes changed anywhere: values or a refusal, and the process goes on."""
    compressed(tmp_path, codec, lambda frame: frame)
    path = sorted(tmp_path.iterdir())[1]
    header = pydicom.dcmread(path)
    frame = codestream(header.pixel_array, CODECS[codec], 16)
    for seed in range(25):
        chance, damaged = random.Random(seed), bytearray(frame)
        for _ in range(chance.choice((1, 3, 20))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        compress(header, [bytes(damaged)], CODECS[codec])
        header.save_as(path)
        try:
            medfuse.load(tmp_path)
        except SeriesError:
            continue


FRAMES = 4


def many_frames(folder, content, codec="jpeg-ls"):
    """An enhanced file whose encapsulated pixels are made from its codestreams."""
    expected = series(folder / "classic", shape=(40, 33, 4))
    enhance([folder / "classic"], folder / "enhanced" / "1.dcm")
    path = folder / "enhanced" / "1.dcm"
    header = pydicom.dcmread(path)
    frames = [codestream(frame, CODECS[codec], 16) for frame in header.pixel_array]
    encapsulated(header, content(frames), CODECS[codec])
    header.save_as(path)
    return folder / "enhanced", expected


def item(content):
    return b"\xfe\xff\x00\xe0" + len(content).to_bytes(4, "little") + content


def table(*offsets):
    return item(struct.pack(f"<{len(offsets)}I", *offsets))


def halves(frame):
    middle = len(frame) // 4 * 2
    return item(frame[:middle]) + item(frame[middle:] + b"\0" * (len(frame) % 2))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "content",
    [
        lambda frames: encapsulate(frames, has_bot=True),
        lambda frames: encapsulate(frames, has_bot=False),
        lambda frames: encapsulate(frames, has_bot=True, fragments_per_frame=2),
        lambda frames: encapsulate(frames, has_bot=False, fragments_per_frame=3),
    ],
)
def test_frames_are_found_among_fragments(tmp_path, codec, content):
    if codec == "rle" and len(content([b"ab" * 64] * 2)) > 300:
        pytest.skip("a fragment of RLE is a frame")
    folder, expected = many_frames(tmp_path, content, codec)
    np.testing.assert_array_equal(values(folder), expected)


@pytest.mark.parametrize(
    "content",
    [
        lambda frames: encapsulate(frames[:-1]),
        lambda frames: encapsulate([*frames, frames[0]]),
        lambda frames: table() + item(frames[0]) + item(b"") + item(frames[2]) + item(frames[3]),
        lambda frames: table() + item(frames[0]) + item(b"") + b"".join(map(item, frames[1:])),
        lambda frames: table(0, 8, 16, 24) + b"".join(map(item, frames)),
        lambda frames: table(0, 0, 0, 0) + b"".join(map(item, frames)),
        lambda frames: table(0) + b"".join(map(item, frames)),
        lambda frames: table(2**32 - 2, 0, 0, 0) + b"".join(map(item, frames)),
        lambda frames: table() + b"".join(map(item, frames[:-1])) + item(frames[-1])[:4] + b"\xf0\xff\xff\xff",
        lambda frames: b"".join(map(item, frames)),
        lambda frames: table() + halves(b"ab" * 50) * FRAMES,
    ],
)
def test_fragments_that_are_not_the_frames_are_refused(tmp_path, content):
    folder, _ = many_frames(tmp_path, content)
    refused(folder)


@pytest.mark.parametrize("wrong", [None, "offset", "length", "count"])
def test_an_extended_offset_table_must_be_true(tmp_path, wrong):
    folder, expected = many_frames(tmp_path, lambda frames: encapsulate(frames, has_bot=False))
    header = pydicom.dcmread(folder / "1.dcm")
    frames = list(pydicom.encaps.generate_frames(header.PixelData, number_of_frames=FRAMES))
    content, offsets, lengths = pydicom.encaps.encapsulate_extended(frames)
    encapsulated(header, content, CODECS["jpeg-ls"])
    change = struct.pack("<Q", 2**40)
    header.ExtendedOffsetTable = offsets[:-8] + (change if wrong == "offset" else offsets[-8:])
    header.ExtendedOffsetTableLengths = lengths[:-8] + (change if wrong == "length" else lengths[-8:])
    if wrong == "count":
        header.ExtendedOffsetTable = offsets[:-8]
    header.save_as(folder / "1.dcm")
    if wrong is None:
        np.testing.assert_array_equal(values(folder), expected)
    else:
        assert "Extended Offset Table" in refused(folder)


def test_a_lying_copy_of_a_slice_reaches_no_decoder(tmp_path):
    """Two files of one name are compared by their pixels: those, too, are checked first."""
    compressed(tmp_path, "jpeg-ls", lambda frame: frame)
    path = sorted(tmp_path.iterdir())[1]
    header = pydicom.dcmread(path)
    frame = bytearray(codestream(header.pixel_array, uid.JPEGLSLossless, 16))
    compress(header, [bytes(patched(frame, frame.index(b"\xff\xf7") + 5, ">HH", 65535, 65535))], uid.JPEGLSLossless)
    header.save_as(tmp_path / "copy.dcm")
    assert "SOPInstanceUID" in refused(tmp_path)
