"""Structures of two studies compared: contours, segments and masks in world mm, and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, SegmentationStorage
from skimage.draw import polygon2mask
from synthetic import acquired, oblique_grid, rotation

from medfuse import load
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import GeometryError, SeriesError, StudyError
from medfuse.registration import Registration, compare_segmentations, read_segmentation
from medfuse.registration.segmentations.compare import agreement
from medfuse.registration.segmentations.rasterise import Region, rasterise
from medfuse.volume.grid import Grid, Points

STILL = Registration(np.eye(4), "header")
GRID = Grid((60, 50, 20), np.array([[-1.0, 0, 0, 30], [0, -1.2, 0, 25], [0, 0, 3, -30], [0, 0, 0, 1]]))


def ring(radius: float, z: float, centre: tuple[float, float] = (0.0, 0.0), count: int = 90) -> Points:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle), np.full(count, z)], axis=1)


def volume_ml(region: Region) -> float:
    return float(region.values.sum() * abs(np.linalg.det(region.grid.affine[:3, :3])) / 1000)


def file(path: Path, kind: str, **elements: Any) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = kind
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "2.25.9"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def made(**elements: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def structure_set(
    path: Path, frame: str, structures: dict[str, Sequence[Points]], *, kind: str = "CLOSED_PLANAR", **more: Any
) -> Path:
    """An RT Structure Set of polygons in RAS+ mm."""
    regions, contours = [], []
    for number, (name, polygons) in enumerate(structures.items(), start=1):
        regions.append(made(ROINumber=number, ROIName=name, ReferencedFrameOfReferenceUID=frame))
        drawn = [
            made(
                ContourGeometricType=kind,
                NumberOfContourPoints=len(each),
                ContourData=[f"{number:.4f}" for number in (each * (-1, -1, 1)).ravel()],
            )
            for each in polygons
        ]
        contours.append(made(ReferencedROINumber=number, ContourSequence=drawn))
    return file(path, RTStructureSetStorage, StructureSetROISequence=regions, ROIContourSequence=contours, **more)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> MetaTensor:
    """An oblique MR series, read back."""
    folder = tmp_path_factory.mktemp("study")
    write_acquisition(acquired(oblique_grid())[0], folder / "mr", study=1, series_number=2)
    return load(folder / "mr")


def frame_of(study: MetaTensor) -> str:
    return str(study.meta["source"].frame_of_reference)


def in_planes(
    study: MetaTensor, radius: float, slices: Sequence[int], offset: tuple[float, float] = (0, 0)
) -> list[Points]:
    """Circles in the slices of a study, about its middle."""
    grid = Grid(tuple(study.shape[1:]), study.affine.numpy())
    across, along = grid.directions[:, 0], grid.directions[:, 1]
    middle = (np.array(grid.shape) - 1) / 2
    return [grid.world((*middle[:2], k)) + (ring(radius, 0, offset)[:, :2] @ np.stack([across, along])) for k in slices]


def test_a_polygon_is_filled_as_others_fill_it() -> None:
    draw = np.random.default_rng(4)
    shape = draw.uniform(3, 45, (9, 2))
    region = rasterise([np.column_stack([shape, np.zeros(9)])], Grid((50, 50, 3), np.diag([1.0, 1, 2, 1])))
    index = np.argwhere(np.ones(region.values.shape[:2]))
    places = region.grid.world(np.column_stack([index, np.zeros(len(index))]))[:, :2]
    theirs = polygon2mask((400, 400), shape * 8)[tuple(np.clip(np.round(places * 8), 0, 399).astype(int).T)]
    assert (theirs != region.values[..., 0].ravel()).mean() < 0.01


def test_a_cylinder_has_its_volume_whatever_the_direction_of_its_planes() -> None:
    rings = [ring(15, z) for z in np.arange(-12, 13, 3.0)]
    wanted = np.pi * 15**2 * 27 / 1000
    assert volume_ml(rasterise(rings, GRID)) == pytest.approx(wanted, rel=0.01)
    turn = rotation(20, -35, 50)
    assert volume_ml(rasterise([each @ turn.T for each in rings], GRID)) == pytest.approx(wanted, rel=0.03)


def test_holes_islands_keyholes_and_copies() -> None:
    outer, hole, island = ring(20, 0), ring(10, 0), ring(4, 0)
    area = np.pi * (400 - 100 + 16) * 3 / 1000
    assert volume_ml(rasterise([outer, hole, island], GRID)) == pytest.approx(area, rel=0.01)
    assert volume_ml(rasterise([outer, hole, outer[::-1], island, hole], GRID)) == pytest.approx(area, rel=0.01)
    keyhole = np.vstack([outer, outer[:1], hole[:1], hole[:0:-1], hole[:1]])
    found = rasterise([keyhole], GRID)
    assert volume_ml(found) == pytest.approx(np.pi * 300 * 3 / 1000, rel=0.01)
    assert found.holds(np.array([[15.0, 1, 0], [0.0, 0, 0], [15, 0.3, 1.4], [15, 1, 1.6]])).tolist() == [
        True, False, True, False,
    ]  # fmt: skip
    two = rasterise([ring(5, 0, (-12, 0)), ring(5, 0, (12, 0))], GRID)
    assert volume_ml(two) == pytest.approx(2 * np.pi * 25 * 3 / 1000, rel=0.04)


def test_every_second_slice_is_filled_between_and_parts_far_apart_are_not_joined() -> None:
    sparse = rasterise([ring(10, z) for z in (-12.0, -6, 0, 6, 12)], GRID)
    assert volume_ml(sparse) == pytest.approx(np.pi * 100 * 30 / 1000, rel=0.02)
    apart = rasterise([ring(10, z) for z in (-27.0, -24, -21, 21, 24)], GRID)
    assert volume_ml(apart) == pytest.approx(np.pi * 100 * 15 / 1000, rel=0.02)
    uneven = rasterise([ring(10, z) for z in (0.0, 3, 7, 10)], GRID)
    assert volume_ml(uneven) == pytest.approx(np.pi * 100 * 12 / 1000, rel=0.1)


def test_contours_that_are_no_planes_are_refused() -> None:
    bent = ring(10, 0)
    bent[::2, 2] += 3
    with pytest.raises(GeometryError, match="parallel planes"):
        rasterise([bent], GRID)
    with pytest.raises(GeometryError, match="enclose nothing"):
        rasterise([np.array([[0.0, 0, 0], [5, 0, 0], [9, 0, 0]])], GRID)
    with pytest.raises(GeometryError, match="which no study does"):
        rasterise([ring(10, z) for z in (0.0, 0.1, 9000.0)], GRID)


def test_on_one_grid_dice_is_that_of_the_voxels_and_distances_are_monais() -> None:
    index = np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), axis=-1)
    one, other = (
        np.linalg.norm((index - middle) * GRID.spacing, axis=-1) < 16 for middle in ((28, 24, 9), (34, 26, 10))
    )
    found = agreement(Region(one, GRID), Region(other, GRID), STILL)
    assert found.dice == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()), abs=1e-9)
    assert found.fixed_ml == pytest.approx(one.sum() * 3.6 / 1000)
    with warnings.catch_warnings():  # MONAI warns of its own use of itself
        warnings.simplefilter("ignore", FutureWarning)
        theirs = float(
            compute_hausdorff_distance(
                *(torch.from_numpy(each[None, None].astype(np.float32)) for each in (one, other)),
                include_background=True,
                percentile=95,
                spacing=GRID.spacing,
            )
        )
    assert found.hausdorff95_mm == pytest.approx(theirs, abs=1.0)
    same = agreement(Region(one, GRID), Region(one, GRID), STILL)
    assert same.dice == 1
    assert same.hausdorff95_mm == pytest.approx(0, abs=1e-3)


def test_a_map_brings_structures_of_other_spacing_together() -> None:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(8, -5, 12), (14, -9, 6)
    fixed = rasterise([ring(15, z, (3, -4)) for z in np.arange(-12, 13, 3.0)], GRID)
    coarse = Grid((30, 28, 40), np.array([[5.0, 0, 0, -70], [0, 5, 0, -70], [0, 0, 2, -40], [0, 0, 0, 1]]))
    moving = rasterise(
        [ring(15, z, (3, -4)) @ matrix[:3, :3].T + matrix[:3, 3] for z in np.arange(-13.0, 13.5, 1.0)], coarse
    )
    before, after = (agreement(fixed, moving, one) for one in (STILL, Registration(matrix, "file")))
    assert before.dice < 0.6
    assert before.mean_surface_distance_mm > 4
    assert after.dice > 0.95
    assert after.mean_surface_distance_mm < 0.7
    assert after.hausdorff95_mm < 2
    assert after.moving_ml == pytest.approx(after.fixed_ml, rel=0.05)


def test_structures_of_a_study_by_name(study: MetaTensor, tmp_path: Path) -> None:
    middle = study.shape[3] // 2
    circles = in_planes(study, 9, range(middle - 2, middle + 3))
    path = structure_set(
        tmp_path / "s.dcm", frame_of(study), {"GTV": circles, "Bladder ": in_planes(study, 5, [middle])}
    )
    found = read_segmentation(path, study, "GTV")
    spacing = Grid(tuple(study.shape[1:]), study.affine.numpy()).spacing
    assert volume_ml(found.region) == pytest.approx(np.pi * 81 * 5 * spacing[2] / 1000, rel=0.03)
    assert read_segmentation(path, study, "bladder").name.strip() == "Bladder"
    report = compare_segmentations(found, found, STILL).to_dict()
    assert report["before"]["dice"] == report["after"]["dice"] == 1
    with pytest.raises(StudyError, match=r"holds 2 structures: 'GTV', 'Bladder'"):
        read_segmentation(path, study)
    with pytest.raises(StudyError, match="no structure 'GTC'; found 'GTV', 'Bladder'"):
        read_segmentation(path, study, "GTC")


def test_what_is_not_of_the_study_is_refused(study: MetaTensor, tmp_path: Path) -> None:
    middle = study.shape[3] // 2
    circles = in_planes(study, 9, [middle])
    other = structure_set(tmp_path / "frame.dcm", "2.25.77", {"GTV": circles})
    with pytest.raises(StudyError, match="frame of reference"):
        read_segmentation(other, study)
    away = structure_set(
        tmp_path / "away.dcm", frame_of(study), {"GTV": [each + np.array([400.0, 0, 0]) for each in circles]}
    )
    with pytest.raises(GeometryError, match="outside of the field of view"):
        read_segmentation(away, study)
    header = study.meta["source"].first
    stranger = structure_set(
        *(tmp_path / "patient.dcm", frame_of(study), {"GTV": circles}), PatientName="Other^Body", PatientID="98765"
    )
    if header.get("PatientID") and header.get("PatientName"):
        with pytest.raises(StudyError, match="different patients"):
            read_segmentation(stranger, study)
    assert read_segmentation(stranger, study, different_patients=True).name == "GTV"


def test_empty_and_damaged_structures_are_refused_without_the_patients_name(study: MetaTensor, tmp_path: Path) -> None:
    middle = study.shape[3] // 2
    circles = in_planes(study, 9, [middle])
    points = structure_set(tmp_path / "points.dcm", frame_of(study), {"GTV": circles}, kind="POINT")
    with pytest.raises(SeriesError, match="the structure is empty"):
        read_segmentation(points, study)
    named = structure_set(
        *(tmp_path / "named.dcm", frame_of(study), {"GTV": circles, "Mustermann boost": circles}),
        PatientName="Mustermann^Erika",
    )
    with pytest.raises(StudyError, match="holds no structure 'x'") as told:
        read_segmentation(named, study, "x", different_patients=True)
    assert "Muster" not in str(told.value)
    (tmp_path / "junk.dcm").write_bytes(b"nothing")
    with pytest.raises(SeriesError, match="could not be read as DICOM"):
        read_segmentation(tmp_path / "junk.dcm", study)
    with pytest.raises(SeriesError, match="expected an RT Structure Set"):
        read_segmentation(next(iter(study.meta["source"].path.iterdir())), study)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_segments_lie_where_their_frames_say(study: MetaTensor, tmp_path: Path, kind: str) -> None:
    """Two segments, sparse frames in the reverse order; the second is asked for."""
    grid = Grid(tuple(study.shape[1:]), study.affine.numpy())
    wanted = np.zeros(grid.shape, bool)
    wanted[4:9, 3:12, 2:6] = True
    wanted[4:6, 3:7, 3] = False
    lps = np.diag([-1.0, -1, 1])
    frames, own = [], []
    for segment, mask in ((1, np.roll(wanted, 2, axis=0)), (2, wanted)):
        if kind == "LABELMAP" and segment == 1:
            continue
        for k in range(5, 1, -1):
            frames.append(mask[..., k].T)
            item = made(PlanePositionSequence=[made(ImagePositionPatient=[*(lps @ grid.world((0, 0, k)))])])
            if kind != "LABELMAP":
                item.SegmentIdentificationSequence = [made(ReferencedSegmentNumber=segment)]
            own.append(item)
    shared = made(
        PlaneOrientationSequence=[
            made(ImageOrientationPatient=[*(lps @ grid.directions[:, 0]), *(lps @ grid.directions[:, 1])])
        ],
        PixelMeasuresSequence=[made(PixelSpacing=[grid.spacing[1], grid.spacing[0]], SliceThickness=grid.spacing[2])],
    )
    stack = np.stack(frames)
    bits = 1 if kind == "BINARY" else 8
    scaled = stack * {"BINARY": 1, "FRACTIONAL": 200, "LABELMAP": 2}[kind]
    pixels = np.packbits(stack.ravel(), bitorder="little").tobytes() if bits == 1 else scaled.astype(np.uint8).tobytes()
    path = file(
        tmp_path / "seg.dcm",
        SegmentationStorage,
        SegmentationType=kind,
        MaximumFractionalValue=255,
        FrameOfReferenceUID=frame_of(study),
        Rows=grid.shape[1],
        Columns=grid.shape[0],
        NumberOfFrames=len(frames),
        SamplesPerPixel=1,
        BitsAllocated=bits,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=0,
        PhotometricInterpretation="MONOCHROME2",
        SegmentSequence=[made(SegmentNumber=1, SegmentLabel="one"), made(SegmentNumber=2, SegmentLabel="two")],
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=own,
        PixelData=pixels + b"\0" * (len(pixels) % 2),
    )
    found = read_segmentation(path, study, "two").region
    every = grid.world(np.argwhere(np.ones(grid.shape)).astype(float))
    np.testing.assert_array_equal(found.holds(every), wanted.ravel())


def test_nifti_masks_and_label_maps(study: MetaTensor, tmp_path: Path) -> None:
    labels = np.zeros(study.shape[1:], np.int16)
    labels[3:6, 3:6, 2:4], labels[8:10, 3:6, 2:4] = 3, 7
    nib.save(nib.Nifti1Image(labels, study.affine.numpy()), tmp_path / "labels.nii.gz")
    assert read_segmentation(tmp_path / "labels.nii.gz", study, "7").region.values.sum() == 12
    with pytest.raises(StudyError, match="holds 2 labels: 3, 7"):
        read_segmentation(tmp_path / "labels.nii.gz", study)
    with pytest.raises(StudyError, match="holds no label 'GTV'"):
        read_segmentation(tmp_path / "labels.nii.gz", study, "GTV")
    nib.save(nib.Nifti1Image(labels * 0, study.affine.numpy()), tmp_path / "empty.nii.gz")
    with pytest.raises(SeriesError, match="is empty"):
        read_segmentation(tmp_path / "empty.nii.gz", study)
    nib.save(nib.Nifti1Image((labels == 3).astype(np.float32) * 0.8, study.affine.numpy()), tmp_path / "share.nii.gz")
    assert read_segmentation(tmp_path / "share.nii.gz", study).region.values.sum() == 18
