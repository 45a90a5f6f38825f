"""Every modality, form of the sources and option of the output together: the validators check each object."""

from itertools import product

import pydicom
import pytest
from enhanced import enhance
from realistic import enhance_ct, enhance_pet
from synthetic import acquired, oblique_grid
from written_series import KINDS, validate

import medfuse
from medfuse import nifti
from medfuse.dicom import Deidentifier, DicomOptions, Identity, write_media
from medfuse.dicom.simulate import write_acquisition
from medfuse.volume import grid_of

MEASURED = {"CT": "CTImage", "PT": "PETImage", "NM": "NMImage"}
ENHANCE = {"CT": enhance_ct, "PT": enhance_pet}
SOURCES = [
    *product(("classic", "enhanced"), MEASURED, ("classic",)),
    *product(("classic", "enhanced"), ENHANCE, ("enhanced",)),
    *product(("nifti",), MEASURED, ("classic",)),
]
COMPRESSIONS = ("none", "rle", "jpeg2000", "jpeg-ls")


def fused(folder, form, modality, partner_form):
    """A small study fused in grey and in colour, and the DICOM files it came from."""
    grid = oblique_grid((36, 34, 4))
    write_acquisition(acquired(grid)[0], folder / "mri", study=1, series_number=2)
    other = acquired(oblique_grid((20, 20, 8), (2, 2, 2)), modality)[0]
    write_acquisition(other, folder / "partner", study=1, series_number=3)
    if form == "enhanced":
        enhance([folder / "mri"], folder / "enhanced" / "all.dcm")
    if form == "nifti":
        (folder / "nifti").mkdir()
        nifti.write(medfuse.load(folder / "mri"), folder / "nifti" / "t1.nii.gz", {})
    if partner_form == "enhanced":
        ENHANCE[modality](folder / "partner", folder / "whole" / "all.dcm")
    mri = folder / {"classic": "mri", "enhanced": "enhanced", "nifti": "nifti/t1.nii.gz"}[form]
    partner = folder / {"classic": "partner", "enhanced": "whole"}[partner_form]
    volumes = medfuse.load(mri, "MR"), medfuse.load(partner)
    studies = {
        channels: medfuse.fuse(*volumes, align="header", palette=palette, engine="masked", different_patients=True)
        for channels, palette in ((1, None), (3, "pet"))
        if channels == 3 or modality == "CT"
    }
    files = [path for one in (mri, partner) if one.is_dir() for path in sorted(one.iterdir())]
    return studies, files


@pytest.mark.slow
@pytest.mark.validator
@pytest.mark.parametrize(("form", "modality", "partner_form"), SOURCES)
def test_validators_have_nothing_to_say_of_any_combination(tmp_path, monkeypatch, form, modality, partner_form):
    studies, sources = fused(tmp_path, form, modality, partner_form)
    who = (
        Identity.given({"PatientID": "17", "PatientName": "A^B", "StudyID": "1", "BodyPartExamined": "HEAD"})
        if form == "nifti"
        else None
    )
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.RAISE)
    written = []
    for (channels, bits, multiframe), compression in product(KINDS, COMPRESSIONS):
        if channels not in studies:
            continue
        out = tmp_path / f"{channels}-{bits}-{multiframe}-{compression}"
        options = DicomOptions(identity=who, bits=bits, multiframe=multiframe, compression=compression)
        studies[channels].write_dicom(out, options=options)
        files = sorted(out.iterdir())
        assert len(files) == (1 if multiframe else grid_of(studies[channels].image).shape[2])
        assert {validate(["dciodvfy", "-new", path]) for path in files} == {KINDS[channels, bits, multiframe]}
        written += files
    study = studies[3]
    for compression in COMPRESSIONS:
        study.write_partner(
            tmp_path / f"moved-{compression}", options=DicomOptions(identity=who, compression=compression)
        )
        files = sorted((tmp_path / f"moved-{compression}").iterdir())
        assert {validate(["dciodvfy", "-new", path]) for path in files} == {MEASURED[modality]}
        written += files
    if form != "nifti":
        study.write_alignment(tmp_path / "alignment")
        assert validate(["dciodvfy", "-new", tmp_path / "alignment" / "0001.dcm"]) == "SpatialRegistration"
        study.write_blending(tmp_path / "blending", tmp_path / "moved-none")
        state = tmp_path / "blending" / "0001.dcm"
        assert validate(["dciodvfy", "-new", state]) == "BlendingSoftcopyPresentationState"
        written += [tmp_path / "alignment" / "0001.dcm", state]
    assert validate(["dcmftest", *written]).splitlines() == [f"yes: {path}" for path in written]
    assert validate(["dcentvfy", *sources, *written]) == ""


@pytest.mark.slow
@pytest.mark.validator
@pytest.mark.parametrize(("form", "modality", "partner_form"), SOURCES)
def test_de_identified_and_on_a_medium_they_are_valid_too(tmp_path, form, modality, partner_form):
    studies, _ = fused(tmp_path, form, modality, partner_form)
    hidden = studies[3].deidentified(Deidentifier())
    who = Identity.given({"PatientID": "X1", "StudyID": "1", "BodyPartExamined": "HEAD"}) if form == "nifti" else None
    hidden.write_dicom(tmp_path / "a", options=DicomOptions(identity=who))
    hidden.write_partner(tmp_path / "b", options=DicomOptions(identity=who))
    files = [path for one in "ab" for path in sorted((tmp_path / one).iterdir())]
    assert {validate(["dciodvfy", "-new", path]) for path in files} == {"SCImage", MEASURED[modality]}
    # The sources themselves are not at hand under their new names.
    remarks = validate(["dcentvfy", *files]).splitlines()
    assert [remark for remark in remarks if "Missing SOPInstanceUID that was referenced" not in remark] == []
    write_media(tmp_path / "media", [tmp_path / "a", tmp_path / "b"])
    assert validate(["dciodvfy", "-new", tmp_path / "media" / "DICOMDIR"]) == "BasicDirectory"
