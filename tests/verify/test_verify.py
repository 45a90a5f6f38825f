"""Faults that validators do not see are put into written files, and must be found."""

import json
import shutil

import numpy as np
import pydicom
import pytest
from enhanced import enhance
from typer.testing import CliRunner

import medfuse
from medfuse.cli import app
from medfuse.verify import verify

pytestmark = pytest.mark.validator


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Phantom studies and what was made of them, with a matrix that moves."""
    folder = tmp_path_factory.mktemp("exports")
    for modality in ("PT", "CT", "NM"):
        place = folder / modality
        medfuse.phantom_study(modality, coarsen=6).write_dicom(place / "study")
        options = ["--with-partner", "--align", "header"]
        if modality == "NM":
            options += ["--plane", "sagittal", "--compress", "jpeg-ls"]
        arguments = ["fuse", place / "study" / "mri", place / "study" / "partner", "--out", place / "out", *options]
        done = CliRunner().invoke(app, [str(one) for one in arguments])
        assert done.exit_code == 0, done.output
    return folder


def test_sources_may_lie_in_the_same_folder(exports):
    """As ``medfuse demo`` leaves them: they are no part of the export, and not its duplicates."""
    place = exports / "CT"
    report = verify(place, [place / "study" / "mri", place / "study" / "partner"])
    assert report.faults == []
    assert {one.verdict for one in report.readings} == {"same"}


def test_what_one_source_alone_does_not_hold_is_a_note(exports):
    place = exports / "CT"
    report = verify(place / "out", [place / "study" / "mri"])
    assert report.faults == []
    assert sum("cannot be found here" in note for note in report.notes) == 1


def test_what_the_export_has_lost_is_one_fault(exports, tmp_path):
    place = exports / "CT"
    sources = [place / "study" / "mri", place / "study" / "partner"]
    out = shutil.copytree(place / "out", tmp_path / "out")
    shutil.rmtree(out / "partner")  # the blended view refers to it
    assert sum("cannot be found here" in fault for fault in verify(out, sources).faults) == 1


@pytest.fixture
def export(exports, tmp_path):
    """A copy that may be spoiled: the folder of results, and the sources."""

    def copy(modality, nifti=False):
        shutil.copytree(exports / modality / "out", tmp_path / "out")
        if not nifti:
            (tmp_path / "out" / "fused.nii.gz").unlink()
        return tmp_path / "out", [exports / modality / "study" / name for name in ("mri", "partner")]

    return copy


def spoil(folder, change):
    """Change every file of a series; ``change`` takes its datasets in the order of their numbers."""
    paths = sorted(folder.glob("*.dcm"))
    datasets = [pydicom.dcmread(path) for path in paths]
    change(datasets)
    for path, dataset in zip(paths, datasets, strict=True):
        dataset.save_as(path)


def swap_spacing(datasets):
    for dataset in datasets:
        dataset.PixelSpacing = [dataset.PixelSpacing[1], float(dataset.PixelSpacing[0]) * 1.25]


def flip_orientation(datasets):
    for dataset in datasets:
        cosines = [float(number) for number in dataset.ImageOrientationPatient]
        dataset.ImageOrientationPatient = [-number for number in cosines[:3]] + cosines[3:]


def reverse_positions(datasets):
    positions = [dataset.ImagePositionPatient for dataset in datasets]
    for dataset, position in zip(datasets, reversed(positions), strict=True):
        dataset.ImagePositionPatient = position


def shift(datasets):
    for dataset in datasets:
        dataset.ImagePositionPatient = [float(number) + 2 for number in dataset.ImagePositionPatient]


def double_uid(datasets):
    datasets[3].SOPInstanceUID = datasets[4].SOPInstanceUID
    datasets[3].file_meta.MediaStorageSOPInstanceUID = datasets[4].SOPInstanceUID


def rescale(datasets):
    for dataset in datasets:
        dataset.RescaleSlope = float(dataset.RescaleSlope) * 2


def rescale_twice(datasets):
    rescale(datasets)
    for dataset in datasets:
        dataset.RealWorldValueMappingSequence[0].RealWorldValueSlope *= 2


def lose_a_slice(datasets):
    datasets[5].ImagePositionPatient = [float(number) + 1000 for number in datasets[5].ImagePositionPatient]


def stranger(datasets):
    datasets[2].PatientID = "another"


@pytest.mark.parametrize("modality", ["PT", "CT", "NM"])
def test_a_good_export_passes_every_reader(export, modality):
    out, sources = export(modality, nifti=True)
    report = verify(out, sources)
    assert report.faults == []
    assert {one.reader for one in report.readings} == {"pydicom", "SimpleITK", "GDCM", "dcm2niix, nibabel", "nibabel"}
    assert {one.verdict for one in report.readings} == {"same"}
    losses = {loss for one in report.readings for loss in one.loses}
    assert "unit" in losses
    assert ("place" in losses) == (modality != "CT")  # GDCM gives no place to Secondary Capture
    assert ("colour profile" in losses) == (modality != "CT")
    assert ("rescale" in losses) == (modality == "NM")  # stored numbers are counts only through the mapping


# Without the sources, which can only add to what is found.
@pytest.mark.parametrize(
    ("change", "folder"),
    [
        *((change, "dicom") for change in (swap_spacing, flip_orientation, reverse_positions, shift, double_uid)),
        *((change, "dicom") for change in (lose_a_slice, stranger)),
        *((change, "partner") for change in (rescale, flip_orientation, reverse_positions)),
    ],
)
def test_faults_are_found(export, change, folder):
    out, _ = export("PT", nifti=True)
    spoil(out / folder, change)
    assert not verify(out).passed


@pytest.mark.parametrize("change", [rescale_twice, swap_spacing, shift])
@pytest.mark.parametrize("modality", ["PT", "CT"])
def test_consistent_faults_of_the_partner_show_against_its_source(export, modality, change):
    out, sources = export(modality)
    spoil(out / "partner", change)
    faults = verify(out, sources).faults
    assert any(("does not hold the values" if change is rescale_twice else "lie apart") in fault for fault in faults)


@pytest.fixture(scope="module")
def in_one_file(exports, tmp_path_factory):
    """The PET study fused again, into one file."""
    out = tmp_path_factory.mktemp("one") / "out"
    sources = [exports / "PT" / "study" / name for name in ("mri", "partner")]
    arguments = ["fuse", *sources, "--out", out, "--align", "header", "--multiframe"]
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    return out, sources


def swap_spacing_of_frames(datasets):
    swap_spacing([datasets[0].SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]])


def flip_orientation_of_frames(datasets):
    flip_orientation([datasets[0].SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]])


def reverse_positions_of_frames(datasets):
    reverse_positions([group.PlanePositionSequence[0] for group in datasets[0].PerFrameFunctionalGroupsSequence])


@pytest.mark.parametrize("change", [swap_spacing_of_frames, flip_orientation_of_frames, reverse_positions_of_frames])
def test_faults_of_one_file_are_found(in_one_file, tmp_path, change):
    copy = shutil.copytree(in_one_file[0], tmp_path / "out")
    spoil(copy / "dicom", change)
    assert not verify(copy).passed


def test_one_good_file_passes(in_one_file, tmp_path):
    out, sources = in_one_file
    copy = shutil.copytree(out, tmp_path / "out")
    (copy / "fused.nii.gz").unlink()
    assert verify(copy, sources).faults == []


def test_an_alignment_that_cannot_be_followed_is_a_fault(export):
    out, sources = export("PT")

    def shear(datasets):
        step = datasets[0].RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
        step.FrameOfReferenceTransformationMatrix = ["1", "0.5", *step.FrameOfReferenceTransformationMatrix[2:]]

    spoil(out / "registration", shear)
    assert any("is called RIGID, but" in fault for fault in verify(out, sources).faults)


def test_a_wrong_alignment_shows_against_the_source(export):
    out, sources = export("PT")

    def turn(datasets):
        step = datasets[0].RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
        matrix = np.array([float(one) for one in step.FrameOfReferenceTransformationMatrix]).reshape(4, 4)
        matrix[:3, 3] += 25
        step.FrameOfReferenceTransformationMatrix = [f"{one:.10g}" for one in matrix.ravel()]

    spoil(out / "registration", turn)
    assert not verify(out, sources).passed


def test_wrong_pixels_show_against_the_nifti(export):
    out, _ = export("PT", nifti=True)

    def change(datasets):
        datasets[4].PixelData = bytes(len(datasets[4].PixelData))

    spoil(out / "dicom", change)
    assert any("NIfTI" in fault for fault in verify(out).faults)


def test_the_command_says_so_in_its_exit_code(export):
    out, sources = export("PT", nifti=True)
    arguments = ["verify", str(out), "--source", str(sources[0]), "--source", str(sources[1])]
    good = CliRunner().invoke(app, arguments)
    assert good.exit_code == 0, good.output
    assert "nothing is wrong" in good.stdout
    spoil(out / "dicom", reverse_positions)
    bad = CliRunner().invoke(app, [*arguments, "--json"])
    assert bad.exit_code == 6
    assert json.loads(bad.stdout)["passed"] is False


def fused(mri, partner, out, *options):
    arguments = ["fuse", mri, partner, "--out", out, "--with-partner", "--align", "header", *options]
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    return out


@pytest.mark.parametrize("modality", ["PT", "CT"])
def test_an_export_from_enhanced_sources_is_the_same_and_lies_where_they_do(exports, tmp_path, modality):
    study = exports / modality / "study"
    sources = [enhance([study / name], tmp_path / name / "1.dcm", shuffled=True).parent for name in ("mri", "partner")]
    out = fused(*sources, tmp_path / "out")
    for folder in ("dicom", "partner"):
        paths = [sorted((place / folder).iterdir()) for place in (out, exports / modality / "out")]
        for ours, classic in zip(*(map(pydicom.dcmread, some) for some in paths), strict=True):
            assert np.array_equal(ours.pixel_array, classic.pixel_array)
            assert {one.keyword for one in ours} == {one.keyword for one in classic}
    report = verify(out, sources)
    assert report.faults == []
    assert [note for note in report.notes if "SimpleITK does not order the frames" in note] == report.notes != []
    spoil(out / "dicom", shift)
    assert not verify(out, sources).passed


def test_one_volume_of_several_and_filled_gaps_are_noted_and_no_fault(exports, tmp_path):
    study = exports / "PT" / "study"
    mri = enhance([study / "mri"] * 2, tmp_path / "mri" / "1.dcm").parent
    shutil.copytree(study / "partner", tmp_path / "partner")
    sorted((tmp_path / "partner").iterdir())[7].unlink()
    number = pydicom.dcmread(mri / "1.dcm").SeriesNumber
    out = fused(mri, tmp_path / "partner", tmp_path / "out", "--mri-series", f"{number}:2", "--fill-gaps")
    written = pydicom.dcmread(out / "dicom" / "0004.dcm")
    base = written.SourceImageSequence[0]
    slices = len(list((study / "mri").iterdir()))
    assert base.ReferencedFrameNumber > slices
    report = verify(out, [mri, tmp_path / "partner"])
    assert report.faults == []
    assert any("one of several in its files" in note for note in report.notes)
    assert any("were filled" in note for note in report.notes)


def test_a_source_that_is_bright_where_nothing_is_and_lacks_what_it_must_say(exports, tmp_path):
    """SimpleITK turns such pictures into their negative; and no export can say what its source does not."""
    study = shutil.copytree(exports / "PT" / "study", tmp_path / "study")
    for path in (study / "partner").iterdir():
        header = pydicom.dcmread(path)
        header.PhotometricInterpretation = "MONOCHROME1"
        del header.CountsSource
        header.save_as(path)
    sources = [study / "mri", study / "partner"]
    out = fused(*sources, tmp_path / "out")
    report = verify(out, sources)
    assert report.faults == []
    assert sum("CountsSource" in note and "a source has the same" in note for note in report.notes) == 1
    spoil(out / "partner", rescale_twice)
    assert any("does not hold the values" in fault for fault in verify(out, sources).faults)
    assert any("CountsSource" in fault for fault in verify(out, sources[:1]).faults)


def test_remarks_name_the_attribute_and_no_value(export):
    out, sources = export("PT")
    spoil(out / "dicom", stranger)
    spoil(out / "dicom", lambda datasets: setattr(datasets[3], "StudyDescription", "secret"))
    faults = verify(out, sources).faults
    assert any("has different value - StudyDescription of the Study" in fault for fault in faults)
    assert not any("another" in fault or "secret" in fault for fault in faults)


def test_no_identity_is_reported(export):
    out, sources = export("PT")
    for folder in ("dicom", "partner", "registration"):

        def name(datasets):
            for dataset in datasets:
                dataset.PatientName, dataset.PatientID = "Secret^Person", "SECRET17"
                dataset.PatientBirthDate = "19501231"

        spoil(out / folder, name)
    spoil(out / "dicom", stranger)
    text = json.dumps(verify(out, sources).to_dict())
    for secret in ("Secret", "SECRET17", "1950"):
        assert secret not in text


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_a_folder_without_dicom_is_refused(tmp_path, path):
    assert CliRunner().invoke(app, ["verify", str(tmp_path / path)]).exit_code == 3
