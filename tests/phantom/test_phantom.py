"""The phantom study: what it shows, where it lies, and that what it writes is what a scanner would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from synthetic import acquired, oblique_grid

from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import ExportError, GeometryError, IntensityError
from medfuse.phantom import TISSUES, Head, PhantomStudy, default_grid, default_pose, phantom_study, render
from medfuse.phantom.scanner import CONTRAST, rigid
from medfuse.volume import MODALITIES, Modality, grid_of, make_volume, plain
from medfuse.volume.grid import LPS_FROM_RAS, Grid

PARTNERS: tuple[Modality, ...] = ("CT", "PT", "NM")
COARSEN = {"CT": 3.0, "PT": 3.0, "NM": 2.0}
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
DCIODVFY, DCENTVFY = shutil.which("dciodvfy", path=PATH), shutil.which("dcentvfy", path=PATH)


@pytest.fixture(scope="module")
def studies() -> dict[str, PhantomStudy]:
    return {partner: phantom_study(partner, coarsen=COARSEN[partner]) for partner in PARTNERS}


@pytest.fixture(scope="module")
def written(studies: dict[str, PhantomStudy], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    for partner, study in studies.items():
        study.write_dicom(folder / partner)
    return folder


def value_near(volume, place: np.ndarray, radius: float) -> float:
    """Mean of the voxels whose centres lie within ``radius`` mm of a place."""
    values, near = around(volume, place, radius)
    return float(values[near].mean())


def around(volume, place: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    values = plain(volume)[0].numpy()
    index = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij"), axis=-1)
    return values, np.linalg.norm(grid_of(volume).world(index) - place, axis=-1) < radius


def centroid(volume, place: np.ndarray, radius: float, threshold: float) -> np.ndarray:
    """Middle of the voxels above a threshold near a place, mm."""
    values, near = around(volume, place, radius)
    return grid_of(volume).world(np.argwhere(near & (values > threshold))).mean(axis=0)


def moved(matrix: np.ndarray, place: np.ndarray) -> np.ndarray:
    return matrix[:3, :3] @ place + matrix[:3, 3]


@pytest.mark.parametrize("modality", MODALITIES)
def test_same_seed_gives_the_same_voxels_and_another_seed_another_head(modality: Modality) -> None:
    grid = default_grid(modality, 9)
    first, again, other = (plain(render(Head(seed), modality, grid, seed=seed)) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_grids_differ_and_are_no_cubes_at_the_origin() -> None:
    grids = [default_grid(modality) for modality in MODALITIES]
    assert len({grid.shape for grid in grids}) == len(grids)
    assert all(len(set(grid.shape)) == 3 and np.linalg.norm(grid.centre) > 5 for grid in grids)
    assert np.abs(grids[0].directions).max() < 0.9999  # the MRI is oblique


def test_coarsening_keeps_the_field_of_view() -> None:
    fine, coarse = default_grid("PT"), default_grid("PT", 3)
    extents = [np.array(grid.shape) * grid.spacing for grid in (fine, coarse)]
    assert np.allclose(*extents, rtol=0.03)
    assert np.allclose(fine.centre, coarse.centre)


def test_tissues_share_every_voxel() -> None:
    world = np.random.default_rng(0).uniform(-130, 130, size=(20000, 3))
    fractions = Head().tissue_fractions(world, blur=2.0)
    assert float(fractions.min()) >= 0
    assert torch.allclose(fractions.sum(0), torch.ones(len(world)), atol=1e-5)
    assert (fractions.sum(1) > 0).sum() >= len(TISSUES) - 2  # lens and marker are tiny


def test_the_answer_for_a_point_does_not_depend_on_its_neighbours() -> None:
    head, world = Head(), np.random.default_rng(1).uniform(-70, 70, size=(3000, 3))
    together = head.tissue_fractions(world)
    assert torch.allclose(together[:, 1000:1100], head.tissue_fractions(world[1000:1100]), atol=1e-4)


def test_eyes_lie_where_the_landmarks_say() -> None:
    landmarks = Head().landmarks
    eyes = Head().tissue_fractions([landmarks["left eye"], landmarks["right eye"]])
    assert (eyes[TISSUES.index("vitreous")] > 0.99).all()
    assert landmarks["left eye"][0] < -20 < 20 < landmarks["right eye"][0]


@pytest.mark.parametrize("partner", PARTNERS)
def test_only_the_partner_shows_the_lesion(studies: dict[str, PhantomStudy], partner: Modality) -> None:
    study = studies[partner]
    around_it = Head().landmarks["lesion"] + np.random.default_rng(2).uniform(-4, 4, size=(500, 3))
    shares = Head().tissue_fractions(around_it, 2.0).mean(1).numpy()
    columns = [MODALITIES.index(modality) for modality in ("MR", partner)]
    in_mri, in_partner = (sum(s * CONTRAST[t][c] for t, s in zip(TISSUES, shares, strict=True)) for c in columns)
    place = study.landmarks["lesion"]
    assert value_near(study.mri, place, 5) == pytest.approx(in_mri, rel=0.2)
    seen = value_near(study.partner, moved(study.truth, place), 7)
    assert seen > in_partner + 25 if partner == "CT" else seen > 2 * in_partner


def test_the_marker_is_on_the_left_of_mri_and_ct(studies: dict[str, PhantomStudy]) -> None:
    study = studies["CT"]
    place = study.landmarks["marker"]
    assert place[0] < -70
    for volume, where, bright in ((study.mri, place, 500), (study.partner, moved(study.truth, place), -50)):
        grid = grid_of(volume)
        assert value_near(volume, where, 3.5) > bright
        # The first axis runs to the patient's left.
        assert grid.axcodes[0] == "L"
        assert grid.index(where)[0] > 0.75 * grid.shape[0]
    opposite = moved(default_pose("MR"), Head().landmarks["marker"] * (-1.03, 1, 1))
    assert value_near(study.mri, opposite, 3.5) < 100


@pytest.mark.parametrize("partner", ["PT", "NM"])
def test_truth_maps_the_mri_onto_the_partner(studies: dict[str, PhantomStudy], partner: Modality) -> None:
    study = studies[partner]
    expected = moved(study.truth, study.landmarks["lesion"])
    hot = 0.7 * float(plain(study.partner).max())
    spacing = max(grid_of(study.partner).spacing)
    assert np.linalg.norm(centroid(study.partner, expected, 20, hot) - expected) < 0.3 * spacing
    assert np.allclose(study.truth[:3, :3] @ study.truth[:3, :3].T, np.eye(3))
    assert np.linalg.norm(expected - study.landmarks["lesion"]) > 20


def test_rigid_turns_x_to_y_about_z_and_then_moves() -> None:
    assert np.allclose(rigid((0, 0, 90), (1, 2, 3)) @ (1, 0, 0, 1), (1, 3, 3, 1))


def turned(grid: Grid, order: tuple[int, int, int], flipped: int | None) -> Grid:
    """The same shape and place, its axes in another order and one of them reversed."""
    turn = np.eye(4)[:, [*order, 3]]
    if flipped is not None:
        turn[:, flipped] *= -1
    return Grid(grid.shape, grid.affine @ turn)


def itk_world_values(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values and RAS+ positions of all voxels of a series, as SimpleITK reads them: (N,), (N, 3)."""
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = SimpleITK.ReadImage(names if len(names) > 1 else names[0])
    values = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)
    index = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    directions = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    lps = index @ directions.T + image.GetOrigin()
    return values.ravel(), lps @ LPS_FROM_RAS[:3, :3]


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
@pytest.mark.parametrize("flipped", [None, 0, 2])
def test_another_reader_finds_every_voxel_where_it_was(
    modality: Modality, order: tuple[int, int, int], flipped: int | None, tmp_path: Path
) -> None:
    volume, scale, offset = acquired(turned(oblique_grid(), order, flipped), modality)
    write_acquisition(volume, tmp_path / "series", study=1, series_number=1)
    values, world = itk_world_values(tmp_path / "series")
    assert len(values) == plain(volume).numel()
    # Stored values are rounded; the steepest gradient is √14 per mm.
    assert np.abs(world @ (1, 2, 3) - (values * scale + offset)).max() < 0.02


@pytest.mark.parametrize("partner", PARTNERS)
def test_written_studies_keep_values_and_identity(
    studies: dict[str, PhantomStudy], written: Path, partner: Modality
) -> None:
    first = [pydicom.dcmread(written / partner / name / "0001.dcm") for name in ("mri", "partner")]
    assert first[0].StudyInstanceUID == first[1].StudyInstanceUID
    assert first[0].SeriesInstanceUID != first[1].SeriesInstanceUID
    assert first[0].FrameOfReferenceUID != first[1].FrameOfReferenceUID
    values, _ = itk_world_values(written / partner / "partner")
    expected = plain(studies[partner].partner)[0].numpy()
    tolerance = 0.51 if partner != "PT" else expected.max() / 65534 * 1.01
    assert np.abs(values.reshape(expected.shape) - expected).max() <= tolerance


def test_pet_headers_allow_an_suv(studies: dict[str, PhantomStudy], written: Path) -> None:
    header = pydicom.dcmread(written / "PT" / "partner" / "0001.dcm")
    drug = header.RadiopharmaceuticalInformationSequence[0]
    assert (header.Units, header.DecayCorrection) == ("BQML", "START")
    clock = [datetime.strptime(time, "%H%M%S") for time in (drug.RadiopharmaceuticalStartTime, header.SeriesTime)]
    half_lives = (clock[1] - clock[0]).total_seconds() / float(drug.RadionuclideHalfLife)
    left = float(drug.RadionuclideTotalDose) * 0.5**half_lives
    suv = CONTRAST["cortex"][2] * float(header.PatientWeight) * 1000 / left
    assert 5 < suv < 12
    slopes = {float(pydicom.dcmread(file).RescaleSlope) for file in (written / "PT" / "partner").iterdir()}
    assert len(slopes) > 5


def test_same_seed_writes_the_same_bytes(written: Path, tmp_path: Path) -> None:
    phantom_study("NM", coarsen=COARSEN["NM"]).write_dicom(tmp_path)
    files = sorted(file.relative_to(tmp_path) for file in tmp_path.rglob("*.dcm"))
    assert files == sorted(file.relative_to(written / "NM") for file in (written / "NM").rglob("*.dcm"))
    assert all((tmp_path / file).read_bytes() == (written / "NM" / file).read_bytes() for file in files)


@pytest.mark.validator
@pytest.mark.skipif(DCIODVFY is None, reason="dciodvfy is not installed: pip install medfuse[validators]")
@pytest.mark.parametrize(
    ("series", "name"),
    [("CT/mri", "MRImage"), ("CT/partner", "CTImage"), ("PT/partner", "PETImage"), ("NM/partner", "NMImage")],
)
def test_the_validator_finds_nothing(written: Path, series: str, name: str) -> None:
    said = subprocess.run([DCIODVFY, "-new", written / series / "0001.dcm"], capture_output=True, text=True)
    assert (said.stdout + said.stderr).split() == [name]


@pytest.mark.validator
@pytest.mark.skipif(DCENTVFY is None, reason="dcentvfy is not installed: pip install medfuse[validators]")
@pytest.mark.parametrize("partner", PARTNERS)
def test_the_files_of_a_study_agree(written: Path, partner: str) -> None:
    files = sorted((written / partner).rglob("*.dcm"))
    said = subprocess.run([DCENTVFY, *files], capture_output=True, text=True)
    assert said.stdout + said.stderr == ""


def test_a_taken_folder_is_left_alone(studies: dict[str, PhantomStudy], written: Path) -> None:
    with pytest.raises(ExportError, match="exists already"):
        studies["NM"].write_dicom(written / "NM")


def test_what_dicom_cannot_hold_is_refused(tmp_path: Path) -> None:
    grid = oblique_grid()
    volume, _, _ = acquired(grid)
    negative = make_volume(-plain(volume), grid, modality="MR")
    with pytest.raises(IntensityError, match="16 bits"):
        write_acquisition(negative, tmp_path / "negative", study=1, series_number=1)
    shear = np.eye(4)
    shear[0, 1] = 0.2
    sheared = make_volume(plain(volume), Grid(grid.shape, grid.affine @ shear), modality="MR")
    with pytest.raises(GeometryError, match="perpendicular"):
        write_acquisition(sheared, tmp_path / "sheared", study=1, series_number=1)
    assert list(tmp_path.iterdir()) == []
