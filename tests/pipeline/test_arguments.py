"""What is given by mistake in Python is told in one sentence, at once: before anything is read, aligned or fused."""

import numpy as np
import pytest

import medfuse


@pytest.fixture(scope="module")
def phantom():
    return medfuse.phantom_study("PT", coarsen=8)


@pytest.mark.parametrize("path", [None, 3.5, b"T1.nii.gz", ["T1.nii.gz", None], [3.5]])
def test_what_is_no_path_is_no_study(path):
    with pytest.raises(medfuse.SeriesError, match=r"expected a path, or a list of paths.* found an object of type"):
        medfuse.load(path)


@pytest.mark.parametrize("modality", ["XR", 5, ["PT", "XR"], [None]])
def test_what_is_no_modality_is_refused(tmp_path, modality):
    with pytest.raises(medfuse.StudyError, match=r"expected a modality of MR \(MRI\), CT.*; found"):
        medfuse.load(tmp_path, modality)


def test_a_volume_is_counted_by_whole_numbers(tmp_path, phantom):
    medfuse.nifti.write_measured(phantom.mri, tmp_path / "mri.nii", {})
    with pytest.raises(medfuse.SeriesError, match="as a whole number from 0; found '0'"):
        medfuse.load(tmp_path / "mri.nii", "MR", volume="0")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"window": (40, 80)}, "expected a window as text or as medfuse.Window; found an object of type tuple"),
        ({"window": 5}, "expected a window as text or as medfuse.Window; found an object of type int"),
        ({"window": "brian"}, "Did you mean 'brain'"),
        ({"palette": 5}, "expected a palette of .* found 5"),
        ({"palette": "viridis"}, "expected a palette of .* found 'viridis'"),
        ({"palette": np.zeros((256, 3))}, "expected a palette of .* found an object of type ndarray"),
        ({"align": np.eye(4)}, r"as medfuse.Registration\(matrix, .file.\); found an object of type ndarray"),
        ({"plane": np.eye(3)}, "plane must be one of .* found an object of type ndarray"),
        ({"join": ["oklab"]}, "join must be one of .* found an object of type list"),
        ({"align": "ridgid"}, "align must be one of .* found 'ridgid'"),
        ({"plane": "oblique"}, "plane must be one of .* found 'oblique'"),
        ({"join": "hsv"}, "join must be one of .* found 'hsv'"),
        ({"batch_size": "4"}, "batch_size must be a whole number from 1; found '4'"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1; found 0"),
    ],
)
def test_an_argument_that_fuse_does_not_take_is_refused_before_it_aligns(phantom, named, said, monkeypatch):
    monkeypatch.setattr("medfuse.pipeline.fuse.prepare_pair", None)
    with pytest.raises(ValueError, match=said):
        medfuse.fuse(phantom.mri, phantom.partner, method="max", **named)


@pytest.mark.parametrize("wrong", ["T1.nii.gz", None, np.zeros((4, 4, 4), np.float32)])
def test_what_is_no_volume_is_not_fused(phantom, wrong):
    with pytest.raises(medfuse.StudyError, match=r"expected the partner as medfuse.load returns it.* found"):
        medfuse.fuse(phantom.mri, wrong)
