"""What a source says of patient, study and place is kept as it says it, whether or not the Standard allows it."""

import pydicom
import pytest
from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from synthetic import acquired, oblique_grid

import medfuse
from medfuse import verify
from medfuse.dicom import DicomOptions, Identity, write_media, write_series
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import ExportError

STATED = {
    "StudyInstanceUID": ["1.2.840.113619.2.05.7", "1.2." + "3" * 80, "1.2.three", "1.2.3.", "1..2", "1.2 3"],
    "FrameOfReferenceUID": ["1.2.840.000.7", "2.25." + "9" * 70, "frame"],
    "PatientID": ["1" * 100, "A\\B", "Jürgen 1", "17\t18", " 17"],
    "PatientName": ["Doe^Jane^^^^^^^", "x" * 90, "Doe=Jane=a=b", "Müller^Zoë", "山田^太郎"],
    "IssuerOfPatientID": ["y" * 70],
    "AccessionNumber": ["0" * 30],
    "StudyID": ["a study of the head"],
    "PatientBirthDate": ["12/06/1941", "1941"],
    "PatientSex": ["female", "m"],
    "PatientAge": ["81", "081Years"],
    "PatientSize": ["1.70000000000000000001"],
    "StudyDate": ["2026-01-05"],
    "StudyTime": ["25:61"],
    "StudyDescription": ["z" * 90],
    "ReferringPhysicianName": ["x" * 90],
    "PatientPosition": ["hfs"],
    "BodyPartExamined": ["the head and the neck"],
}


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A series without oddities, of four small slices."""
    folder = tmp_path_factory.mktemp("origin")
    volume, _, _ = acquired(oblique_grid((6, 5, 4)))
    write_acquisition(volume, folder, study=1, series_number=2)
    return folder


def stated(origin, folder, elements, charset="ISO_IR 192"):
    """The same series, saying other things, by the bytes given or by text in a character set."""
    folder.mkdir()
    with config.disable_value_validation():
        for path in sorted(origin.iterdir()):
            header = pydicom.dcmread(path)
            header.SpecificCharacterSet = charset
            for keyword, text in elements.items():
                header[keyword] = DataElement(tag_for_keyword(keyword), dictionary_VR(keyword), text)
            header.save_as(folder / path.name)
    return folder


def stored(path, keyword):
    """The bytes of an element as the file holds them, without padding."""
    return pydicom.dcmread(path).get_item(tag_for_keyword(keyword)).value.rstrip(b" \0")


@pytest.mark.parametrize(("keyword", "text"), [(keyword, text) for keyword, texts in STATED.items() for text in texts])
def test_every_element_keeps_its_text(origin, tmp_path, keyword, text):
    source = stated(origin, tmp_path / "in", {keyword: text})
    volume = medfuse.load(source)
    write_series(volume, tmp_path / "out", options=DicomOptions(identity=volume))
    written = sorted((tmp_path / "out").iterdir())
    assert len(written) == 4
    for path in written:
        assert stored(path, keyword) == stored(next(iter(sorted(source.iterdir()))), keyword)
    if keyword == "FrameOfReferenceUID":
        assert volume.meta["source"].frame_of_reference == text


ILL_FORMED = {"StudyInstanceUID": "1.2.840.05", "FrameOfReferenceUID": "1.2.0003", "PatientID": "7" * 100}


def test_verify_reports_what_is_ill_formed_without_its_value(origin, tmp_path):
    source = stated(origin, tmp_path / "in", ILL_FORMED)
    volume = medfuse.load(source)
    write_series(volume, tmp_path / "out", options=DicomOptions(identity=volume))
    report = verify.verify(tmp_path / "out", [source])
    for keyword, value in ILL_FORMED.items():
        said = [
            note for note in report.notes if note.startswith(f"{keyword} holds a value that the value representation")
        ]
        assert len(said) == 1
        assert value not in str(report)
    assert not [fault for fault in report.faults if "dciodvfy" not in fault]
    clean = medfuse.load(origin)
    write_series(clean, tmp_path / "clean", options=DicomOptions(identity=clean))
    assert not [note for note in verify.verify(tmp_path / "clean", [origin]).notes if "value representation" in note]


def test_ill_formed_identities_are_listed_and_referred_to(origin, tmp_path):
    volume = medfuse.load(stated(origin, tmp_path / "in", ILL_FORMED))
    write_series(volume, tmp_path / "out", options=DicomOptions(identity=volume))
    write_media(tmp_path / "media", [tmp_path / "out"])
    with config.disable_value_validation():
        records = pydicom.dcmread(tmp_path / "media" / "DICOMDIR").DirectoryRecordSequence
        assert records[0].PatientID == ILL_FORMED["PatientID"]
        assert records[1].StudyInstanceUID == ILL_FORMED["StudyInstanceUID"]
    assert len(medfuse.load(tmp_path / "in").meta["source"].headers) == 4


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO 2022 IR 87", "GB18030", "ISO_IR 144"])
def test_text_is_the_same_in_every_character_set(origin, tmp_path, charset):
    name = {
        "ISO_IR 100": "Müller^Zoë",
        "ISO 2022 IR 87": "Yamada^Tarou=山田^太郎",
        "GB18030": "王^小东",
        "ISO_IR 144": "Люкceмбypг",
    }
    sets = ["", charset] if charset.startswith("ISO 2022") else charset
    volume = medfuse.load(stated(origin, tmp_path / "in", {"PatientName": name[charset]}, sets))
    write_series(volume, tmp_path / "out", options=DicomOptions(identity=volume))
    assert stored(tmp_path / "out" / "0001.dcm", "PatientName") == name[charset].encode()


@pytest.mark.parametrize("keyword", ["PatientName", "PatientID", "AccessionNumber"])
def test_a_name_that_its_character_set_does_not_have_is_refused(origin, tmp_path, keyword):
    source = stated(origin, tmp_path / "in", {keyword: "Mueller"})
    for path in source.iterdir():
        path.write_bytes(path.read_bytes().replace(b"Mueller", b"M\xfcller1"))
    volume = medfuse.load(source)
    with pytest.raises(ExportError, match=f"{keyword} of the source holds characters that its SpecificCharacterSet"):
        write_series(volume, tmp_path / "out", options=DicomOptions(identity=volume))
    named = Identity.given({"PatientID": "17"})
    write_series(volume, tmp_path / "out", options=DicomOptions(identity=named))


def test_a_weight_that_is_no_number_is_kept_as_text(origin, tmp_path):
    source = stated(origin, tmp_path / "in", {"PatientWeight": "70.25"})
    for path in source.iterdir():
        path.write_bytes(path.read_bytes().replace(b"70.25 ", b"70,25 "))
    volume = medfuse.load(source)
    write_series(volume, tmp_path / "out", options=DicomOptions(identity=volume))
    assert stored(tmp_path / "out" / "0001.dcm", "PatientWeight") == b"70,25"
