"""A DICOM registration read: ours, those of other programs, and those that must not be followed."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeformableSpatialRegistrationStorage,
    ExplicitVRLittleEndian,
    SpatialFiducialsStorage,
    SpatialRegistrationStorage,
)
from synthetic import acquired, oblique_grid
from written_series import MATRIX, provenance

import medfuse
from medfuse.dicom import read_alignment, write_alignment
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import RegistrationError
from medfuse.registration import Registration
from medfuse.volume import source_of

MRI, PARTNER = "2.25.101", "2.25.102"
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
MOVING_TO_FIXED = FLIP @ np.linalg.inv(MATRIX) @ FLIP
"""What such an object holds of `MATRIX`, which is fixed → moving, RAS+."""


def an_item(frame, *matrices, kind="RIGID"):
    steps = []
    for matrix in matrices:
        step = Dataset()
        step.FrameOfReferenceTransformationMatrixType = kind
        step.FrameOfReferenceTransformationMatrix = [f"{number:.14g}"[:16] for number in np.asarray(matrix).ravel()]
        steps.append(step)
    registration, item = Dataset(), Dataset()
    registration.MatrixSequence = Sequence(steps)
    item.MatrixRegistrationSequence = Sequence([registration])
    if frame:
        item.FrameOfReferenceUID = frame
    return item


def an_object(path, items, registered=MRI, sop_class=SpatialRegistrationStorage):
    dataset = Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, "2.25.103"
    dataset.PatientName = "Hidden^Name"
    if registered:
        dataset.FrameOfReferenceUID = registered
    dataset.RegistrationSequence = Sequence(items)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def studies(tmp_path):
    """An MRI and a PET of two studies and two frames of reference, in folders."""
    for name, shape, modality, study in (("mri", (17, 22, 13), "MR", 1), ("partner", (11, 12, 14), "PT", 7)):
        volume, _, _ = acquired(oblique_grid(shape), modality)
        write_acquisition(volume, tmp_path / name, study=study, series_number=2)
    return tmp_path


def frames(folder):
    return [source_of(medfuse.load(folder / name)).frame_of_reference for name in ("mri", "partner")]


def test_what_is_written_is_read_again(studies):
    mri, partner = (source_of(medfuse.load(studies / name)) for name in ("mri", "partner"))
    write_alignment(studies / "out", mri=mri, partner=partner, registration=provenance(matrix=MATRIX).registration)
    fixed, moving = frames(studies)
    assert fixed != moving
    for path in (studies / "out", studies / "out" / "0001.dcm"):
        np.testing.assert_allclose(read_alignment(path, fixed, moving), MATRIX, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        read_alignment(studies / "out", moving, fixed), np.linalg.inv(MATRIX), rtol=0, atol=1e-12
    )


@pytest.mark.validator
def test_another_program_reads_what_is_written(studies):
    parser = pytest.importorskip("pydicomrt.reg.parser")
    mri, partner = (source_of(medfuse.load(studies / name)) for name in ("mri", "partner"))
    write_alignment(studies / "out", mri=mri, partner=partner, registration=provenance(matrix=MATRIX).registration)
    fixed, moving = frames(studies)
    found = parser.get_spatial_registrations(pydicom.dcmread(studies / "out" / "0001.dcm"))
    np.testing.assert_allclose(np.reshape(found[fixed][moving], (4, 4)), MOVING_TO_FIXED, rtol=0, atol=1e-12)


@pytest.mark.validator
def test_what_plastimatch_wrote_is_read(studies):
    if shutil.which("plastimatch") is None:
        pytest.skip("plastimatch is not installed")
    Registration(MATRIX, "rigid", {}).save(studies / "fixed_to_moving.tfm")
    subprocess.run(
        [
            *("plastimatch", "xf-convert", "--input", studies / "fixed_to_moving.tfm"),
            *("--output-dicom", studies / "foreign", "--fixed-rcs", studies / "mri"),
            *("--moving-rcs", studies / "partner"),
        ],
        check=True,
        capture_output=True,
    )
    # It writes six decimals.
    np.testing.assert_allclose(read_alignment(studies / "foreign", *frames(studies)), MATRIX, rtol=0, atol=1e-5)


@pytest.mark.validator
@pytest.mark.parametrize("base", ["mri", "partner"])
def test_what_pydicomrt_wrote_is_read_whichever_study_is_the_registered_one(studies, base):
    builder = pytest.importorskip("pydicomrt.reg.builder")
    other = {"mri": "partner", "partner": "mri"}[base]
    series = {name: [pydicom.dcmread(path) for path in sorted((studies / name).iterdir())] for name in (base, other)}
    into_base = MOVING_TO_FIXED if base == "mri" else np.linalg.inv(MOVING_TO_FIXED)
    written = builder.SpatialRegistrationBuilder(series[base]).add_registration(series[other], into_base).build()
    written.save_as(studies / "foreign.dcm", enforce_file_format=True)
    np.testing.assert_allclose(read_alignment(studies / "foreign.dcm", *frames(studies)), MATRIX, rtol=0, atol=1e-6)


def test_both_may_be_items_of_a_third_frame(tmp_path):
    to_third = FLIP @ MATRIX @ MATRIX @ FLIP
    path = an_object(
        tmp_path / "r", [an_item(MRI, to_third), an_item(PARTNER, to_third @ MOVING_TO_FIXED)], registered="2.25.9"
    )
    np.testing.assert_allclose(read_alignment(path, MRI, PARTNER), MATRIX, rtol=0, atol=1e-9)


def test_matrices_of_one_item_follow_one_another(tmp_path):
    first, second = np.eye(4), FLIP @ MATRIX @ FLIP
    first[:3, 3] = (10, 20, 30)
    path = an_object(tmp_path / "r", [an_item(PARTNER, first, second)])
    expected = FLIP @ np.linalg.inv(second @ first) @ FLIP
    np.testing.assert_allclose(read_alignment(path, MRI, PARTNER), expected, rtol=0, atol=1e-9)
    assert np.abs(expected - FLIP @ np.linalg.inv(first @ second) @ FLIP).max() > 0.5


def test_each_type_of_matrix_is_followed(tmp_path):
    rigid = FLIP @ MATRIX @ FLIP
    scaled = rigid @ np.diag([1.1, 0.9, 1.05, 1])
    sheared = scaled.copy()
    sheared[0, 1] += 0.2
    for kind, matrix in (
        ("RIGID", rigid),
        ("RIGID_SCALE", scaled),
        ("RIGID_SCALE", np.diag([1.1, 0.9, 1.05, 1]) @ rigid),
        ("AFFINE", sheared),
    ):
        path = an_object(tmp_path / "r", [an_item(PARTNER, matrix, kind=kind)])
        np.testing.assert_allclose(
            read_alignment(path, MRI, PARTNER), FLIP @ np.linalg.inv(matrix) @ FLIP, rtol=0, atol=1e-9
        )
    for kind, matrix in (("RIGID", scaled), ("RIGID_SCALE", sheared), ("RIGID", np.diag([1, 1, -1, 1]))):
        path = an_object(tmp_path / "r", [an_item(PARTNER, matrix, kind=kind)])
        with pytest.raises(RegistrationError, match=f"called {kind}, but"):
            read_alignment(path, MRI, PARTNER)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "without any item"),
        ([an_item("2.25.7", np.eye(4))], "none is the partner's"),
        ([an_item(None, np.eye(4))], "none is the partner's"),
        ([an_item(PARTNER)], "holds no matrix"),
        ([an_item(PARTNER, np.eye(4)[:3])], "found 12 numbers"),
        ([an_item(PARTNER, MOVING_TO_FIXED.T)], "last four 0 0 0 1"),
        ([an_item(PARTNER, np.diag([1, 1, 0, 1]), kind="AFFINE")], "cannot be inverted"),
        ([an_item(PARTNER, np.eye(4), kind="HOMOGENEOUS")], "found another"),
        ([an_item(PARTNER, np.eye(4)), an_item(PARTNER, MOVING_TO_FIXED)], "differently"),
        ([an_item(PARTNER, np.eye(4)), an_item(MRI, MOVING_TO_FIXED)], None),
    ],
)
def test_what_does_not_join_the_studies_is_refused(tmp_path, items, message):
    path = an_object(tmp_path / "r", items)
    if message is None:  # the registered frame may be moved itself, as the item says
        np.testing.assert_allclose(read_alignment(path, MRI, PARTNER), FLIP @ MOVING_TO_FIXED @ FLIP, atol=1e-9)
        return
    with pytest.raises(RegistrationError, match=message) as caught:
        read_alignment(path, MRI, PARTNER)
    assert "Hidden" not in str(caught.value)
    assert "2.25" not in str(caught.value)


def test_another_kind_of_object_is_named(tmp_path):
    for sop_class, name in (
        (DeformableSpatialRegistrationStorage, "Deformable Spatial Registration"),
        (SpatialFiducialsStorage, "Spatial Fiducials"),
        ("1.3.6.1.4.1.5962.1.2", "an object of unknown class"),
    ):
        path = an_object(tmp_path / "r", [an_item(PARTNER, np.eye(4))], sop_class=sop_class)
        with pytest.raises(RegistrationError, match=f"found {name}"):
            read_alignment(path, MRI, PARTNER)


def test_what_is_no_registration_file_is_told(tmp_path, studies):
    with pytest.raises(RegistrationError, match="there is no registration file"):
        read_alignment(tmp_path / "none", MRI, PARTNER)
    (tmp_path / "text").write_text("not DICOM")
    with pytest.raises(RegistrationError, match="could not be read as DICOM"):
        read_alignment(tmp_path / "text", MRI, PARTNER)
    with pytest.raises(RegistrationError, match="found 13 files"):
        read_alignment(studies / "mri", MRI, PARTNER)
    with pytest.raises(RegistrationError, match="found MR Image"):
        read_alignment(studies / "mri" / "0001.dcm", MRI, PARTNER)
    path = an_object(tmp_path / "r", [an_item(PARTNER, np.eye(4))])
    for pair, study in (((None, PARTNER), "MRI"), ((MRI, None), "partner")):
        with pytest.raises(RegistrationError, match=f"the {study} has no FrameOfReferenceUID"):
            read_alignment(path, *pair)
