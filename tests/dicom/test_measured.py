"""Measured values as DICOM: anyone's derived volume, the registered partner, and the alignment beside it."""

import json

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from synthetic import acquired, oblique_grid
from written_series import GRIDS, MATRIX, at_world, fused_on, provenance, read_back, sources, validate

import medfuse
from medfuse.dicom import DicomOptions, Identity, write_alignment, write_partner, write_series
from medfuse.errors import ExportError, GeometryError, IntensityError
from medfuse.registration import Registration, resample
from medfuse.volume import grid_of, like, make_volume
from medfuse.volume.grid import Grid


def registered(mri, partner):
    """The partner on the MRI's grid in its own unit."""
    return resample(partner, grid_of(mri), Registration(MATRIX, "rigid", {}), outside=0.0)


def everywhere(grid):
    index = np.stack(np.meshgrid(*(np.arange(length) for length in grid.shape), indexing="ij"), -1).reshape(-1, 3)
    return index, grid.world(index)


@pytest.fixture(params=["CT", "PT", "NM"])
def pair(request, tmp_path):
    mri, partner = sources(tmp_path, GRIDS["oblique"], request.param)
    moved = registered(mri, partner)
    done = provenance(request.param, matrix=MATRIX)
    write_partner(moved, tmp_path / "moved", mri=mri.meta["source"], provenance=done)
    return mri, partner, moved, tmp_path


def test_the_partner_keeps_its_values_and_its_place(pair):
    mri, partner, moved, folder = pair
    back = medfuse.load(folder / "moved")
    assert grid_of(back).matches(grid_of(mri), 1e-3)
    assert back.meta["unit"] == partner.meta["unit"]
    span = float(moved.max() - moved.min())
    assert float((back.as_tensor() - moved.as_tensor()).abs().max()) <= span / 65534
    first = pydicom.dcmread(folder / "moved" / "0001.dcm")
    header = mri.meta["source"].first
    assert first.StudyInstanceUID == header.StudyInstanceUID
    assert first.FrameOfReferenceUID == header.FrameOfReferenceUID
    assert first.SourceImageSequence[0].SpatialLocationsPreserved == "NO"
    assert "PatientWeight" in first


@pytest.mark.validator
def test_validators_accept_partner_and_alignment(pair):
    mri, partner, _, folder = pair
    modality = partner.meta["modality"]
    done = provenance(modality, matrix=MATRIX)
    write_alignment(
        folder / "align", mri=mri.meta["source"], partner=partner.meta["source"], registration=done.registration
    )
    write_series(fused_on(mri, 3), folder / "out", partner=partner.meta["source"], provenance=done)
    names = {"CT": "CTImage", "PT": "PETImage", "NM": "NMImage"}
    for path in sorted((folder / "moved").iterdir())[::6]:
        assert validate(["dciodvfy", "-new", path]) == names[modality]
    assert validate(["dciodvfy", "-new", folder / "align" / "0001.dcm"]) == "SpatialRegistration"
    files = [path for one in ("mri", "partner", "out", "moved", "align") for path in sorted((folder / one).iterdir())]
    assert validate(["dcentvfy", *files]) == ""


@pytest.mark.validator
@pytest.mark.parametrize("modality", ["PT", "NM"])
@pytest.mark.parametrize(("position", "words"), [("FFP", ["recumbent", "prone", "feet-first"]), ("", [])])
def test_a_partner_that_does_not_say_how_the_patient_lay_lies_as_in_the_mri(tmp_path, modality, position, words):
    sources(tmp_path, GRIDS["oblique"], modality)
    lost = ("PatientOrientationCodeSequence", "PatientGantryRelationshipCodeSequence")
    lost = (*lost, "RadiopharmaceuticalInformationSequence")
    for path in [*(tmp_path / "mri").iterdir(), *(tmp_path / "partner").iterdir()]:
        header = pydicom.dcmread(path)
        for keyword in lost:
            header.pop(keyword, None)
        header.PatientPosition = position
        header.save_as(path)
    mri, partner = (medfuse.load(tmp_path / name) for name in ("mri", "partner"))
    write_partner(
        registered(mri, partner),
        tmp_path / "out",
        mri=mri.meta["source"],
        provenance=provenance(modality, matrix=MATRIX),
    )
    written = pydicom.dcmread(tmp_path / "out" / "0001.dcm")
    assert (
        validate(["dciodvfy", "-new", tmp_path / "out" / "0001.dcm"]) == {"PT": "PETImage", "NM": "NMImage"}[modality]
    )
    lying = written.PatientOrientationCodeSequence
    said = [*lying, *(lying[0].PatientOrientationModifierCodeSequence if lying else ())]
    assert [code.CodeMeaning for code in (*said, *written.PatientGantryRelationshipCodeSequence)] == words
    assert "PatientPosition" not in written


def test_simple_itk_reads_the_partners_values(pair):
    mri, partner, _, folder = pair
    if partner.meta["modality"] == "NM":
        image = sitk.ReadImage(str(folder / "moved" / "0001.dcm"))
        affine = np.eye(4)
        affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        values, affine = (
            np.moveaxis(sitk.GetArrayFromImage(image), (0, 1, 2), (2, 1, 0)),
            np.diag([-1, -1, 1, 1]) @ affine,
        )
        slope = pydicom.dcmread(folder / "moved" / "0001.dcm").RealWorldValueMappingSequence[0].RealWorldValueSlope
        values = np.moveaxis(sitk.GetArrayFromImage(image), (0, 1, 2), (2, 1, 0)) * slope
    else:
        values, affine = read_back(folder / "moved")
    index, world = everywhere(grid_of(mri))
    back = medfuse.load(folder / "moved").as_tensor()[0].numpy()
    np.testing.assert_array_equal(at_world(values, affine, world), back[tuple(index.T)])


def test_the_alignment_leads_from_partner_to_mri(pair):
    mri, partner, _, folder = pair
    done = provenance(partner.meta["modality"], matrix=MATRIX)
    write_alignment(
        folder / "align", mri=mri.meta["source"], partner=partner.meta["source"], registration=done.registration
    )
    written = pydicom.dcmread(folder / "align" / "0001.dcm")
    base, other = written.RegistrationSequence
    assert base.FrameOfReferenceUID == written.FrameOfReferenceUID == mri.meta["source"].first.FrameOfReferenceUID
    assert other.FrameOfReferenceUID == partner.meta["source"].first.FrameOfReferenceUID
    step = other.MatrixRegistrationSequence[0].MatrixSequence[0]
    assert step.FrameOfReferenceTransformationMatrixType == "RIGID"
    matrix = np.array([float(number) for number in step.FrameOfReferenceTransformationMatrix]).reshape(4, 4)
    point = np.array([10.0, -20.0, 30.0, 1.0])  # RAS, the MRI's world
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    np.testing.assert_allclose(matrix @ flip @ MATRIX @ point, flip @ point, atol=1e-9)


def test_registered_suv_can_still_be_computed(tmp_path):
    mri, partner = sources(tmp_path, GRIDS["oblique"])
    write_partner(registered(mri, partner), tmp_path / "moved", mri=mri.meta["source"], provenance=provenance())
    written, source = pydicom.dcmread(tmp_path / "moved" / "0003.dcm"), partner.meta["source"].first
    for keyword in ("Units", "SeriesDate", "SeriesTime", "DecayCorrection", "AcquisitionTime"):
        assert written[keyword].value == source[keyword].value
    drug, original = (one.RadiopharmaceuticalInformationSequence[0] for one in (written, source))
    assert drug.RadionuclideTotalDose == original.RadionuclideTotalDose
    assert drug.RadionuclideHalfLife == original.RadionuclideHalfLife


def test_partner_of_another_study_is_referenced_there(tmp_path):
    mri, _ = sources(tmp_path, GRIDS["oblique"])
    from medfuse.dicom.simulate import write_acquisition

    other, _, _ = acquired(oblique_grid((11, 12, 14)), "PT")
    write_acquisition(other, tmp_path / "elsewhere", study=7, series_number=3)
    partner = medfuse.load(tmp_path / "elsewhere")
    write_alignment(
        tmp_path / "align",
        mri=mri.meta["source"],
        partner=partner.meta["source"],
        registration=provenance(matrix=MATRIX).registration,
    )
    written = pydicom.dcmread(tmp_path / "align" / "0001.dcm")
    assert len(written.ReferencedSeriesSequence) == 1
    (study,) = written.StudiesContainingOtherReferencedInstancesSequence
    assert study.StudyInstanceUID == partner.meta["source"].first.StudyInstanceUID
    assert validate(["dciodvfy", "-new", tmp_path / "align" / "0001.dcm"]) == "SpatialRegistration"


def test_an_alignment_needs_two_dicom_series(tmp_path):
    mri, _ = sources(tmp_path, GRIDS["oblique"])
    with pytest.raises(ExportError, match="two DICOM series"):
        write_alignment(
            tmp_path / "align", mri=mri.meta["source"], partner=None, registration=provenance().registration
        )


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("modality", ["MR", "CT", "PT", "NM"])
def test_anyones_derived_volume(tmp_path, name, modality):
    """A plain array beside the series it was computed from."""
    source, _, _ = acquired(GRIDS[name], modality)
    from medfuse.dicom.simulate import write_acquisition

    write_acquisition(source, tmp_path / "source", study=1, series_number=2)
    source = medfuse.load(tmp_path / "source")
    derived = source.as_tensor()[0].numpy() * 0.37
    options = DicomOptions(identity=source, description="halved", number=77)
    write_series(derived, tmp_path / "out", options=options)
    back = medfuse.load(tmp_path / "out")
    assert (back.meta["modality"], back.meta["unit"]) == (modality, source.meta["unit"])
    index, world = everywhere(grid_of(source))
    found = at_world(back.as_tensor()[0].numpy(), np.asarray(back.affine), world)
    np.testing.assert_allclose(found, derived[tuple(index.T)], atol=float(np.ptp(derived)) / 65000)
    first = pydicom.dcmread(tmp_path / "out" / "0001.dcm")
    assert (first.SeriesDescription, first.SeriesNumber) == ("halved", 77)
    assert first.SourceImageSequence[0].SpatialLocationsPreserved == "YES"
    judged = validate(["dciodvfy", "-new", tmp_path / "out" / "0001.dcm"])
    assert judged == {"MR": "MRImage", "CT": "CTImage", "PT": "PETImage", "NM": "NMImage"}[modality]
    files = [path for one in ("source", "out") for path in sorted((tmp_path / one).iterdir())]
    assert validate(["dcentvfy", *files]) == ""


@pytest.mark.validator
@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("modality", ["CT", "NM"])
def test_dcm2niix_reads_values_in_their_place(tmp_path, name, modality):
    import nibabel as nib

    mri, partner = sources(tmp_path, GRIDS[name], modality)
    moved = registered(mri, partner)
    write_partner(moved, tmp_path / "moved", mri=mri.meta["source"], provenance=provenance(modality, matrix=MATRIX))
    (tmp_path / "converted").mkdir()
    validate(["dcm2niix", "-z", "n", "-f", "x", "-o", tmp_path / "converted", tmp_path / "moved"])
    converted = nib.load(tmp_path / "converted" / "x.nii")
    _, world = everywhere(grid_of(mri))
    back = medfuse.load(tmp_path / "moved")
    values = at_world(back.as_tensor()[0].numpy(), np.asarray(back.affine), world)
    found = at_world(converted.get_fdata(dtype=np.float32), converted.affine, world)
    if modality == "NM":  # it does not know real-world values
        found = (
            found * pydicom.dcmread(tmp_path / "moved" / "0001.dcm").RealWorldValueMappingSequence[0][0x00409225].value
        )
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ("values", "modality", "slope", "intercept"),
    [
        ([-1024, 0, 3071], "CT", 1, -1024),
        ([-3000, 0, 3071], "CT", 1, -3000),
        ([0, 7, 65535], "NM", 1, 0),
        ([0, 7, 30000], "PT", 1, 0),
        ([0, 0.5, 7.25], "PT", 2.0**-13, 0),
        ([-0.5, 0.5, 7.25], "PT", 2.0**-12, 0),
        ([5.5, 5.5, 5.5], "MR", 1, 5),
    ],
)
def test_whole_numbers_are_stored_as_they_are(values, modality, slope, intercept):
    from medfuse.dicom.writing.rescale import choose_storage

    storage = choose_storage(torch.tensor(values, dtype=torch.float32), modality)
    assert (storage.slope, storage.intercept) == (slope, intercept)


def test_values_that_dicom_cannot_store_are_refused(tmp_path):
    mri, _ = sources(tmp_path, GRIDS["oblique"])
    values = mri.as_tensor().clone()
    values[0, 3, 3, 3] = float("nan")
    with pytest.raises(IntensityError, match="not finite"):
        write_series(like(values, mri), tmp_path / "out")
    with pytest.raises(GeometryError, match="identity=volume"):
        write_series(values.numpy(), tmp_path / "out")
    with pytest.raises(GeometryError, match="do not fill"):
        write_series(values.numpy()[:, 1:], tmp_path / "out", options=DicomOptions(identity=mri))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("compression", ["rle", "jpeg-ls", "jpeg2000"])
@pytest.mark.parametrize("channels", [1, 3])
def test_compression_loses_nothing(tmp_path, compression, channels):
    volume, _, _ = acquired(oblique_grid((40, 35, 5)))
    from medfuse.dicom.simulate import write_acquisition

    write_acquisition(volume, tmp_path / "mri", study=1, series_number=2)
    mri = medfuse.load(tmp_path / "mri")
    image = fused_on(mri, channels)
    for name in ("none", compression):
        write_series(image, tmp_path / name, provenance=provenance(), options=DicomOptions(compression=name))
    for name in ("0001.dcm", "0005.dcm"):
        packed, loose = (pydicom.dcmread(tmp_path / one / name) for one in (compression, "none"))
        assert packed.file_meta.TransferSyntaxUID.is_compressed
        assert packed.LossyImageCompression == "00"
        np.testing.assert_array_equal(packed.pixel_array, loose.pixel_array)
        assert validate(["dciodvfy", "-new", tmp_path / compression / name]) == ("MRImage", "SCImage")[channels == 3]
    values, affine = read_back(tmp_path / compression)
    expected, same = read_back(tmp_path / "none")
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(affine, same)


@pytest.mark.parametrize("compression", ["rle", "jpeg-ls"])
@pytest.mark.parametrize("modality", ["CT", "PT", "NM"])
def test_measured_values_are_compressed_without_loss(tmp_path, compression, modality):
    mri, partner = sources(tmp_path, GRIDS["oblique"], modality)
    moved = registered(mri, partner)
    done = provenance(modality, matrix=MATRIX)
    for name in ("none", compression):
        options = DicomOptions(compression=name)
        write_partner(moved, tmp_path / name, mri=mri.meta["source"], provenance=done, options=options)
    packed, loose = (medfuse.load(tmp_path / name) for name in (compression, "none"))
    assert torch.equal(packed.as_tensor(), loose.as_tensor())


def test_what_cannot_be_compressed_is_refused_before_the_first_file(tmp_path):
    mri, _ = sources(tmp_path, GRIDS["oblique"])
    with pytest.raises(ExportError, match="at least 32"):
        write_series(fused_on(mri, 3), tmp_path / "out", options=DicomOptions(compression="jpeg2000"))
    with pytest.raises(ExportError, match="expected a compression"):
        DicomOptions(compression="zip")
    for bad in ("", "x" * 65, "a\\b", "a\nb"):
        with pytest.raises(ExportError, match="series description"):
            DicomOptions(description=bad)
    with pytest.raises(ExportError, match="series number"):
        DicomOptions(number=-1)
    assert not (tmp_path / "out").exists()


def without_headers():
    grid = Grid((9, 11, 7), np.diag([-2.0, 2.0, 2.0, 1.0]))
    return make_volume(torch.rand(1, 9, 11, 7), grid, modality="MR")


def test_a_volume_without_headers_takes_an_identity(tmp_path):
    who = Identity.given({"PatientID": "17", "PatientName": "Test^One", "BodyPartExamined": "HEAD"})
    for name in "ab":
        write_series(without_headers(), tmp_path / name, options=DicomOptions(identity=who))
    a, b = (pydicom.dcmread(tmp_path / name / "0001.dcm") for name in "ab")
    assert (a.PatientID, a.PatientName) == ("17", "Test^One")
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        assert a[keyword].value == b[keyword].value
    assert a.SeriesInstanceUID != b.SeriesInstanceUID
    assert list(a.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    assert validate(["dciodvfy", "-new", tmp_path / "a" / "0001.dcm"]) == "MRImage"
    assert validate(["dcentvfy", *sorted((tmp_path / "a").iterdir()), *sorted((tmp_path / "b").iterdir())]) == ""


def test_a_volume_without_headers_takes_a_template_series(tmp_path):
    mri, _ = sources(tmp_path, GRIDS["oblique"])
    write_series(without_headers(), tmp_path / "out", options=DicomOptions(identity=mri))
    written, source = pydicom.dcmread(tmp_path / "out" / "0001.dcm"), mri.meta["source"].first
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert written[keyword].value == source[keyword].value
    assert list(written.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]


def test_a_volume_without_any_identity_has_empty_values(tmp_path):
    write_series(without_headers(), tmp_path / "out")
    written = pydicom.dcmread(tmp_path / "out" / "0001.dcm")
    assert [written[keyword].value for keyword in ("PatientID", "PatientBirthDate", "AccessionNumber")] == ["", "", ""]
    assert "Error" not in validate(["dciodvfy", "-new", tmp_path / "out" / "0001.dcm"])


@pytest.mark.parametrize(
    "wrong", [{"OperatorsName": "x"}, {"PatientBirthDate": "1950-01-01"}, {"PatientID": "x" * 65}, {"StudyTime": "?"}]
)
def test_an_identity_that_dicom_cannot_hold_is_refused(wrong):
    with pytest.raises(ExportError) as refused:
        Identity.given(wrong)
    assert "1950" not in str(refused.value)


def test_pet_from_nifti_cannot_become_dicom(tmp_path):
    mri, _ = sources(tmp_path, GRIDS["oblique"])
    uptake = make_volume(mri.as_tensor(), grid_of(mri), modality="PT")
    with pytest.raises(ExportError, match="when and with what"):
        write_partner(uptake, tmp_path / "moved", mri=mri.meta["source"], provenance=provenance())


def fused_phantom(folder, *options, coarsen=4):
    from typer.testing import CliRunner

    from medfuse.cli import app

    medfuse.phantom_study("PT", coarsen=coarsen).write_dicom(folder / "study")
    arguments = ["fuse", folder / "study" / "mri", folder / "study" / "partner", "--out", folder / "out"]
    return CliRunner().invoke(app, [str(one) for one in (*arguments, "--align", "header", *options)])


@pytest.mark.validator
def test_the_command_writes_partner_and_alignment_beside_the_picture(tmp_path):
    options = ["--with-partner", "--description", "FUSED test", "--series-number", 123, "--compress", "jpeg-ls"]
    done = fused_phantom(tmp_path, *options, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    files = sorted((tmp_path / "out").rglob("*.dcm"))
    assert {path.parent.name for path in files} == {"dicom", "partner", "registration", "blending"}
    assert result["alignment"] == str(tmp_path / "out" / "registration")
    first = pydicom.dcmread(tmp_path / "out" / "dicom" / "0001.dcm")
    assert (first.SeriesDescription, first.SeriesNumber) == ("FUSED test", 123)
    uptake = medfuse.load(tmp_path / "out" / "partner")
    assert uptake.meta["unit"] == "Bq/ml"
    assert grid_of(uptake).matches(grid_of(medfuse.load(tmp_path / "study" / "mri")))
    everything = [*sorted((tmp_path / "study").rglob("*.dcm")), *files]
    assert validate(["dcentvfy", *everything]) == ""
    for folder, name in (("dicom", "SCImage"), ("partner", "PETImage"), ("registration", "SpatialRegistration")):
        assert validate(["dciodvfy", "-new", tmp_path / "out" / folder / "0001.dcm"]) == name


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--template", "nowhere"], 2),
        (["--identity", "PatientID"], 2),
        (["--identity", "Operators=x"], 2),
        (["--identity", "PatientID=1", "--template", "x"], 2),
        (["--description", "x" * 65], 2),
        (["--compress", "jpeg2000"], 5),
    ],
)
def test_choices_that_cannot_be_met_are_refused(tmp_path, options, code):
    done = fused_phantom(tmp_path, *options, coarsen=8)
    assert done.exit_code == code, done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("modality", ["CT", "PT", "NM"])
def test_every_measured_value_passes_strict_validation(tmp_path, monkeypatch, modality):
    mri, partner = sources(tmp_path, GRIDS["oblique"], modality)
    moved = registered(mri, partner)
    done = provenance(modality, matrix=MATRIX)
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.RAISE)
    write_partner(moved, tmp_path / "moved", mri=mri.meta["source"], provenance=done)
    write_alignment(
        tmp_path / "align", mri=mri.meta["source"], partner=partner.meta["source"], registration=done.registration
    )


@pytest.mark.parametrize("modality", ["CT", "PT", "NM"])
def test_nothing_else_of_the_partner_passes(tmp_path, modality):
    """Names planted in every text element that is not asked for, private ones and those within sequences too."""
    mri, _ = sources(tmp_path, GRIDS["oblique"], modality)
    for path in sorted((tmp_path / "partner").iterdir()):
        dataset = pydicom.dcmread(path)
        for keyword in ("InstitutionName", "OperatorsName", "PatientComments", "ProtocolName", "StationName"):
            setattr(dataset, keyword, "Secret^Person")
        dataset.private_block(0x0019, "VENDOR", create=True).add_new(1, "LO", "Secret^Person")
        for item in dataset.get("RadiopharmaceuticalInformationSequence") or []:
            item.private_block(0x0019, "VENDOR", create=True).add_new(1, "LO", "Secret^Person")
        dataset.save_as(path)
    partner = medfuse.load(tmp_path / "partner")
    done = provenance(modality, matrix=MATRIX)
    write_partner(registered(mri, partner), tmp_path / "moved", mri=mri.meta["source"], provenance=done)
    write_alignment(
        tmp_path / "align", mri=mri.meta["source"], partner=partner.meta["source"], registration=done.registration
    )
    for path in [*(tmp_path / "moved").iterdir(), *(tmp_path / "align").iterdir()]:
        assert b"Secret" not in path.read_bytes()


@pytest.mark.validator
def test_dcmtk_takes_every_file_for_dicom(tmp_path):
    mri, partner = sources(tmp_path, GRIDS["oblique"], "NM")
    done = provenance("NM", matrix=MATRIX)
    write_partner(registered(mri, partner), tmp_path / "moved", mri=mri.meta["source"], provenance=done)
    write_alignment(
        tmp_path / "align", mri=mri.meta["source"], partner=partner.meta["source"], registration=done.registration
    )
    options = DicomOptions(compression="jpeg-ls")
    write_series(fused_on(mri, 3), tmp_path / "out", provenance=done, options=options)
    files = [path for one in ("moved", "align", "out") for path in sorted((tmp_path / one).iterdir())]
    assert all(line.startswith("yes:") for line in validate(["dcmftest", *files]).splitlines())
