"""Bytes that nobody would send in good faith: one sentence each, and no memory for what a file cannot hold."""

import random
import struct

import pydicom
import pytest
from enhanced import enhance
from hostile import limited_memory
from synthetic import acquired, oblique_grid

import medfuse
from medfuse.archive.send import send
from medfuse.dicom import scan
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import MedfuseError


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """Small series of every form: classic MR, CT and PET, NM, enhanced, and compressed."""
    root = tmp_path_factory.mktemp("forms")
    for modality in ("MR", "CT", "PT", "NM"):
        volume, _, _ = acquired(oblique_grid((9, 8, 4)), modality)
        write_acquisition(volume, root / modality, study=1, series_number=4)
    enhance([root / "MR"], root / "enhanced" / "1.dcm")
    (root / "rle").mkdir()
    for path in (root / "MR").iterdir():
        header = pydicom.dcmread(path)
        header.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        header.save_as(root / "rle" / path.name)
    return root


FORMS = ["MR", "CT", "PT", "NM", "enhanced", "rle"]


def read_or_refuse(folder):
    """Load a folder; a refusal is one sentence or two, of a size that people read, and names no patient."""
    with limited_memory():
        for series in scan(folder).series:
            assert (series.stack is None) == (series.problem is not None)
        message = refusal(folder)
    assert message == "" or 20 < len(message) < 700
    for secret in ("\n", "Phantom^", "PHANTOM"):
        assert secret not in message


def refusal(folder):
    try:
        medfuse.load(folder)
    except MedfuseError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(25))
def test_random_damage_is_a_verdict(forms, tmp_path, form, seed):
    """Bytes changed, removed, doubled and cut, mostly in the header."""
    chance = random.Random(f"{form} {seed}")
    for number, path in enumerate(sorted((forms / form).iterdir())):
        content = bytearray(path.read_bytes())
        if number == 0 or chance.random() < 0.3:
            for _ in range(chance.choice((1, 3, 30))):
                place = chance.randrange(132, min(len(content), 3000))
                kind = chance.randrange(4)
                if kind == 0:
                    content[place] = chance.randrange(256)
                elif kind == 1:
                    content[place : place + 4] = struct.pack("<I", chance.choice((0, 1, 0xFFFFFFFF, 0x7FFFFFFF)))
                elif kind == 2:
                    del content[place : place + chance.randrange(1, 9)]
                else:
                    content[place:place] = content[place : place + 16]
            if chance.random() < 0.2:
                del content[chance.randrange(200, len(content)) :]
        (tmp_path / path.name).write_bytes(content)
    read_or_refuse(tmp_path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("Rows", 65535),
        ("Columns", 65535),
        ("NumberOfFrames", 2**31 - 1),
        ("NumberOfFrames", -3),
        ("BitsAllocated", 65535),
        ("BitsAllocated", 0),
        ("SamplesPerPixel", 60000),
    ],
)
def test_absurd_sizes_ask_for_no_memory(forms, tmp_path, form, keyword, value):
    for path in sorted((forms / form).iterdir()):
        header = pydicom.dcmread(path)
        setattr(header, keyword, value)
        header.save_as(tmp_path / path.name)
    read_or_refuse(tmp_path)
    if keyword != "NumberOfFrames" or form in ("NM", "enhanced"):
        with pytest.raises(MedfuseError), limited_memory():
            medfuse.load(tmp_path)


def test_an_absurd_position_asks_for_no_memory(forms, tmp_path):
    for number, path in enumerate(sorted((forms / "MR").iterdir())):
        header = pydicom.dcmread(path)
        if number == 3:
            header.ImagePositionPatient = ["1e15", "-1e15", "1e15"]
        header.save_as(tmp_path / path.name)
    for fill_gaps in (False, True):
        with pytest.raises(MedfuseError), limited_memory():
            medfuse.load(tmp_path, fill_gaps=fill_gaps)


def write_bomb(path, forms, kind):
    """A deflated file that says so late in its meta information, or lies about where that ends."""
    header = pydicom.dcmread(sorted((forms / "MR").iterdir())[0])
    header.PixelData = bytes(2**26)
    header.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    if kind == "late":
        header.file_meta.FileMetaInformationVersion = bytes(2000)
    if kind == "later":
        header.file_meta.FileMetaInformationVersion = bytes(60_000)
    header.save_as(path, implicit_vr=False, little_endian=True)
    content = bytearray(path.read_bytes())
    if kind == "lying":
        content[140:144] = struct.pack("<I", len(content) - 200)
    path.write_bytes(content)
    assert len(content) < 2**18


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr("medfuse.dicom.encoding.deflated.MOST_INFLATED", 2**24)


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("kind", ["plain", "late", "later", "lying"])
def test_a_deflated_bomb_is_not_inflated(forms, tmp_path, kind):
    write_bomb(tmp_path / "bomb.dcm", forms, kind)
    assert scan(tmp_path).damaged == 1
    with pytest.raises(MedfuseError, match="could not be read as DICOM"):
        medfuse.Registration.load(tmp_path / "bomb.dcm", *2 * (medfuse.load(forms / "MR"),))
    with pytest.raises(MedfuseError, match="damaged or cut short"):
        send(tmp_path, "127.0.0.1:1", retries=0)


def test_deep_nesting_is_a_verdict(tmp_path):
    """Sequences within sequences, deeper than any stack."""
    depth = 20_000
    opened = struct.pack("<HHI", 0x0008, 0x1140, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    head = struct.pack("<HHI", 0x0008, 0x0016, 26) + b"1.2.840.10008.5.1.4.1.1.4\0"
    (tmp_path / "deep.dcm").write_bytes(head + opened * depth)
    meta = struct.pack("<HH2sH", 2, 0, b"UL", 4) + struct.pack("<I", 26)
    meta += struct.pack("<HH2sH", 2, 0x10, b"UI", 18) + b"1.2.840.10008.1.2\0"
    (tmp_path / "deeper.dcm").write_bytes(bytes(128) + b"DICM" + meta + head + opened * depth)
    scan(tmp_path)
    with pytest.raises(MedfuseError):
        medfuse.load(tmp_path)


@pytest.mark.parametrize(
    ("tag", "kind", "damaged"), [((0x0028, 0x0002), b"US", False), ((0x0020, 0x000E), b"UI", True)], ids=["size", "uid"]
)
def test_a_kind_of_value_that_the_standard_does_not_have_is_a_verdict(forms, tmp_path, tag, kind, damaged):
    path = sorted((forms / "MR").iterdir())[0]
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.save_as(tmp_path / "one.dcm", implicit_vr=False, little_endian=True)
    element = struct.pack("<HH2s", *tag, kind)
    stored = (tmp_path / "one.dcm").read_bytes()
    assert stored.count(element) >= 1
    (tmp_path / "one.dcm").write_bytes(stored.replace(element, struct.pack("<HH2s", *tag, b"S\0"), 1))
    found = scan(tmp_path)
    assert (found.damaged == 1) == damaged
    assert len(found.series) == 1 - damaged
    with pytest.raises(MedfuseError):
        medfuse.load(tmp_path)
