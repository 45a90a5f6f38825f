"""Where a patient's identity comes out: of what is allowed to bear it, of nothing else, and of nothing at all."""

import io
import json
import logging
import re
import warnings
from datetime import datetime
from pathlib import Path

import pydicom
import pytest
from planted_identity import DATES, SECRET, SECRET_ROOT, plant
from pydicom.dataset import Dataset
from synthetic import oblique_grid
from typer.testing import CliRunner
from written_series import sources, validate

import medfuse
from medfuse.cli import app
from medfuse.dicom import Deidentifier, DicomSource, Identity, scan
from medfuse.dicom.writing.identity import CLOCK, PATIENT, PLACE, STUDY
from medfuse.dicom.writing.image_modules import CT_ACQUISITION, MR_ACQUISITION, NM_ACQUISITION, PT_ACQUISITION
from medfuse.errors import MedfuseError

ALLOWED = {*PATIENT, *STUDY, *PLACE, *CLOCK, *MR_ACQUISITION, *CT_ACQUISITION, *PT_ACQUISITION, *NM_ACQUISITION}
ALLOWED |= {"Manufacturer", "ManufacturerModelName", "SoftwareVersions"}  # of the scanners, in ContributingEquipment
NAMES = {"PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyID", "ReferringPhysicianName"}


MODALITIES = ["PT", pytest.param("CT", marks=pytest.mark.slow), pytest.param("NM", marks=pytest.mark.slow)]


@pytest.fixture
def study(tmp_path):
    """A study that bears identities wherever it can: its folder and what was planted."""

    def make(modality):
        sources(tmp_path / "in", oblique_grid(), modality)
        planted = plant(tmp_path / "in")
        assert planted.keys() >= NAMES - {"PatientBirthDate"}
        assert len(planted) > 500
        return tmp_path / "in"

    return make


def elements(dataset):
    """Every element with its keyword, nested ones too."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)
        else:
            yield element


def fused(study, out, *more):
    arguments = [
        "fuse",
        study / "mri",
        study / "partner",
        "--out",
        out,
        "--align",
        "header",
        "--with-partner",
        "--json",
    ]
    logs = io.StringIO()
    handler = logging.StreamHandler(logs)
    logging.getLogger().addHandler(handler)
    try:
        done = CliRunner().invoke(app, [str(one) for one in (*arguments, *more)])
    finally:
        logging.getLogger().removeHandler(handler)
    assert done.exit_code == 0, done.output
    return done, logs.getvalue()


@pytest.mark.parametrize("modality", MODALITIES)
def test_identity_stands_only_where_it_belongs(study, tmp_path, modality):
    done, logs = fused(study(modality), tmp_path / "out")
    said = done.stdout + done.stderr + logs
    for path in (tmp_path / "out").rglob("*"):
        said += path.name
        if path.suffix == ".json":
            said += path.read_text()
        elif path.suffix == ".dcm":
            for element in elements(pydicom.dcmread(path)):
                assert not element.tag.is_private
                if SECRET in str(element.value):
                    assert element.keyword in ALLOWED, element.keyword
    assert SECRET not in said
    assert DATES["DA"] not in said
    written = pydicom.dcmread(tmp_path / "out" / "dicom" / "0001.dcm")
    assert SECRET in str(written.PatientName)  # the audit sees what is there


@pytest.mark.parametrize("modality", MODALITIES)
def test_nothing_of_the_profile_is_left_where_it_was_asked_for(study, tmp_path, modality):
    from dicomanonymizer.simpledicomanonymizer import initialize_actions

    of_profile = {tag[:2] for tag in initialize_actions("dicomfields_2026c") if len(tag) == 2}
    done, logs = fused(study(modality), tmp_path / "out", "--deidentify")
    pseudonyms = set()
    for path in sorted((tmp_path / "out").rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        for element in elements(dataset):
            text = str(element.value)
            assert SECRET_ROOT not in text, element.keyword
            assert DATES["DA"] not in text, element.keyword
            if SECRET in text:  # what a scanner says of itself is none of the profile's business
                assert (element.tag.group, element.tag.element) not in of_profile, element.keyword
                assert element.keyword in ALLOWED - {*PATIENT, *STUDY}, element.keyword
        assert dataset.PatientIdentityRemoved == "YES"
        assert dataset.LongitudinalTemporalInformationModified == "MODIFIED"
        assert [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence] == ["113100", "113107"]
        pseudonyms.add((str(dataset.PatientName), dataset.PatientID, dataset.StudyInstanceUID))
        today = pydicom.valuerep.DA(dataset.StudyDate)
        for element in elements(dataset):
            if element.VR == "DA" and element.value:
                assert abs((pydicom.valuerep.DA(element.value) - today).days) < 36600
                assert element.value[:4] != "2026" or dataset.StudyDate[:4] == "2026"
    assert len(pseudonyms) == 1
    assert re.fullmatch(r"ANON-[0-9A-F]{8}", next(iter(pseudonyms))[1])
    everything = done.stdout + done.stderr + logs
    everything += "".join(path.name for path in (tmp_path / "out").rglob("*"))
    everything += "".join(path.read_text() for path in (tmp_path / "out").rglob("*.json"))
    for secret in (SECRET, SECRET_ROOT, DATES["DA"]):
        assert secret not in everything


@pytest.mark.validator
@pytest.mark.parametrize("modality", MODALITIES)
def test_validators_have_nothing_to_say_of_de_identified_objects(tmp_path, modality):
    sources(tmp_path / "in", oblique_grid(), modality)
    fused(tmp_path / "in", tmp_path / "out", "--deidentify", "--format", "dicom")
    paths = sorted((tmp_path / "out").rglob("*.dcm"))
    assert {path.parent.name for path in paths} == {"dicom", "partner", "registration", "blending"}
    for path in {path.parent: path for path in paths}.values():
        assert len(validate(["dciodvfy", "-new", path]).splitlines()) == 1, validate(["dciodvfy", "-new", path])


def test_all_objects_of_one_study_stay_together(study, tmp_path):
    place = study("PT")
    fused(place, tmp_path / "out", "--deidentify", "--format", "dicom")
    first, moved = (pydicom.dcmread(tmp_path / "out" / name / "0001.dcm") for name in ("dicom", "partner"))
    alignment, blending = (
        pydicom.dcmread(tmp_path / "out" / name / "0001.dcm") for name in ("registration", "blending")
    )
    assert len({one.StudyInstanceUID for one in (first, moved, alignment, blending)}) == 1
    assert first.FrameOfReferenceUID == moved.FrameOfReferenceUID == alignment.FrameOfReferenceUID
    base = first.SourceImageSequence[0].ReferencedSOPInstanceUID
    known = [item.ReferencedSOPInstanceUID for item in alignment.RegistrationSequence[0].ReferencedImageSequence]
    assert base in known
    below = blending.BlendingSequence[0].ReferencedSeriesSequence[0].ReferencedImageSequence
    assert base in [item.ReferencedSOPInstanceUID for item in below]
    originals = {str(one.header.SOPInstanceUID) for one in scan(place / "mri").series[0].instances}
    assert not originals & {*known}


def test_dates_keep_their_distance_and_another_run_says_nothing_of_the_first(tmp_path):
    mri, _ = sources(tmp_path, oblique_grid())
    hidden = Deidentifier()
    header = mri.meta["source"].first
    header.StudyDate, header.AcquisitionDateTime = "20240229", "20240302101112.5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header.ContentDate = "unknown"
    one, other = hidden.header(header), Deidentifier().header(header)
    days = pydicom.valuerep.DA(one.AcquisitionDateTime[:8]) - pydicom.valuerep.DA(one.StudyDate)
    assert days.days == 2
    assert one.AcquisitionDateTime.endswith("101112.5")
    assert one.ContentDate == ""
    assert one.StudyDate < "20230301"
    assert one.StudyInstanceUID == hidden.uid(header.StudyInstanceUID) != other.StudyInstanceUID
    assert one.PatientID != other.PatientID
    assert header.StudyDate == "20240229"


def test_burned_in_text_is_refused(tmp_path):
    mri, _ = sources(tmp_path, oblique_grid())
    mri.meta["source"].first.BurnedInAnnotation = "YES"
    with pytest.raises(MedfuseError, match="burned into its pixels"):
        Deidentifier().source(mri.meta["source"])


def test_a_file_name_is_an_identity_too(tmp_path):
    study = medfuse.phantom_study("CT", coarsen=4)
    for name, volume in (("Doe_Jane_T1.nii", study.mri), ("Doe_Jane_CT.nii", study.partner)):
        import nibabel as nib

        nib.save(nib.Nifti1Image(volume.as_tensor()[0].numpy(), volume.affine.numpy()), tmp_path / name)
    arguments = ["fuse", tmp_path / "Doe_Jane_T1.nii", tmp_path / "Doe_Jane_CT.nii", "--modality", "CT"]
    arguments += ["--out", tmp_path / "out", "--align", "header", "--deidentify", "--json"]
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["provenance"]["mri_source"] == ["MR file"]
    assert "Doe" not in (tmp_path / "out" / "fused.json").read_text()


def test_somebody_and_nobody_do_not_go_together(tmp_path):
    sources(tmp_path, oblique_grid())
    arguments = ["fuse", tmp_path / "mri", tmp_path / "partner", "--out", tmp_path / "out", "--deidentify"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--identity", "PatientID=17"])
    assert done.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", [[], ["--deidentify"]])
def test_ill_formed_values_do_not_reach_the_log_either(tmp_path, more):
    sources(tmp_path / "in", oblique_grid())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in (tmp_path / "in").rglob("*.dcm"):
            dataset = pydicom.dcmread(path)
            dataset.PatientBirthDate, dataset.PatientAge, dataset.StudyTime = f"{SECRET}1941", f"{SECRET}81", SECRET
            dataset.PatientSex = dataset.AccessionNumber = f"{SECRET} of the accession department"
            dataset.save_as(path)
    done, logs = fused(tmp_path / "in", tmp_path / "out", *more)
    assert SECRET not in done.output + logs


@pytest.mark.parametrize("wrong", ["gap", "partner", "cut"])
def test_a_refusal_names_nobody(study, tmp_path, wrong):
    place = study("PT")
    slices = sorted((place / "mri").iterdir())
    if wrong == "gap":
        slices[4].unlink()
    elif wrong == "cut":
        slices[4].write_bytes(slices[4].read_bytes()[:-100])
    pair = [place / "partner", place / "mri"] if wrong == "partner" else [place / "mri", place / "partner"]
    done = CliRunner().invoke(app, ["fuse", *map(str, pair), "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 3, done.output
    for secret in (SECRET, SECRET_ROOT, DATES["DA"]):
        assert secret not in done.output.replace(str(tmp_path), "")
    listed = CliRunner().invoke(app, ["inspect", str(place), "--json"])
    # A series is chosen by its description, which whoever inspects their own files sees; of the rest, nothing.
    descriptions = {series["description"] for series in json.loads(listed.output)["series"]}
    assert descriptions == {f"{SECRET}0008103E"}
    assert SECRET not in listed.output.replace(f"{SECRET}0008103E", "")
    assert DATES["DA"] not in listed.output


def test_a_day_of_birth_is_emptied_and_days_of_the_examination_are_shifted_alike():
    header = Dataset()
    header.PatientBirthDate, header.StudyDate, header.SeriesDate = "19410203", "20260105", "20260107"
    clean = Deidentifier().header(header)
    assert clean.PatientBirthDate == ""
    first, second = (datetime.strptime(clean[name].value, "%Y%m%d") for name in ("StudyDate", "SeriesDate"))
    assert (second - first).days == 2
    assert first.year < 2026


def test_weight_comes_from_the_partner_of_one_patient_and_never_from_another():
    def source(header):
        return DicomSource("PT", None, (), Path(), headers=(header,), grid=oblique_grid(), slices=(((0, None),),))

    mri, pet = Dataset(), Dataset()
    mri.PatientID, mri.PatientName, mri.PatientSize = "17", "DOE^JANE", "1.7"
    pet.PatientID, pet.PatientName, pet.PatientSize, pet.PatientWeight = "17", "DOE^JANE", "1.6", "70"
    assert Identity.of(source(mri)).elements(source(pet)).PatientWeight == 70
    assert Identity.of(source(mri)).elements(source(pet)).PatientSize == 1.7
    pet.PatientID = "P17"
    assert (
        Identity.of(source(mri)).elements(source(pet)).PatientWeight == 70
    )  # another archive's number for the same name
    pet.PatientName = "ROE^RICHARD"
    assert "PatientWeight" not in Identity.of(source(mri)).elements(source(pet))
