"""Transform files that claim what they do not hold, say nothing sound, or end the process that reads them."""

from __future__ import annotations

import contextlib
import random
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medfuse.errors import RegistrationError
from medfuse.registration import Registration, Warp, assess_registration
from medfuse.volume import make_volume
from medfuse.volume.grid import Grid, Points

IDENTITY = "1 0 0 0 1 0 0 0 1"


def text(path: Path, kind: str, parameters: str, fixed: str, times: int = 1) -> Path:
    """Write a transform in ITK's text form."""
    one = f"Transform: {kind}_double_3_3\nParameters: {parameters}\nFixedParameters: {fixed}\n"
    path.write_text("#Insight Transform File V1.0\n" + "".join(f"#Transform {k}\n{one}" for k in range(times)))
    return path


def mat(path: Path, kind: str, parameters: list[float], fixed: list[float], rows: int | None = None) -> Path:
    """Write a transform as MAT version 4, as ITK and ANTs do."""
    content = b""
    for name, values, count in ((kind, parameters, rows or len(parameters)), ("fixed", fixed, len(fixed))):
        content += struct.pack("<5i", 0, count, 1, 0, len(name) + 1) + name.encode() + b"\0"
        content += np.array(values, "<f8").tobytes()
    path.write_bytes(content)
    return path


def spline(mesh: tuple[int, int, int] = (4, 5, 6)) -> sitk.BSplineTransform:
    transform = sitk.BSplineTransform(3)
    transform.SetTransformDomainOrigin((-80, -80, -80))
    transform.SetTransformDomainPhysicalDimensions((160, 160, 160))
    transform.SetTransformDomainMeshSize(mesh)
    return transform


def saved(transform: sitk.Transform, path: Path) -> Path:
    sitk.WriteTransform(transform, str(path))
    return path


def refused(path: Path) -> str:
    """What is said of a file that is not read: one sentence that names it."""
    with pytest.raises(RegistrationError) as caught:
        Registration.load(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", ["BSplineTransform", "DisplacementFieldTransform"])
@pytest.mark.parametrize("suffix", [".tfm", ".mat"])
@pytest.mark.parametrize("sizes", ["30000 30000 30000", "2000000000 1 1", "8 8 9", "1e300 1e300 1e300"])
def test_a_lattice_that_its_parameters_do_not_fill_is_refused(
    tmp_path: Path, kind: str, suffix: str, sizes: str
) -> None:
    fixed = f"{sizes} 0 0 0 1 1 1 {IDENTITY}"
    if suffix == ".tfm":
        path = text(tmp_path / "a.tfm", kind, "0 0 0", fixed)
    else:
        path = mat(tmp_path / "a.mat", f"{kind}_double_3_3", [0, 0, 0], [float(one) for one in fixed.split()])
    said = refused(path)
    assert "claims a lattice of" in said
    assert "holds 3;" in said


@pytest.mark.parametrize("sizes", ["nan 4 4", "-4 -4 4", "0 0 0", "4.5 4 4", "inf 4 4", "x y z", "4"])
def test_a_lattice_without_sizes_is_refused(tmp_path: Path, sizes: str) -> None:
    path = text(tmp_path / "a.tfm", "BSplineTransform", "0 0 0", f"{sizes} 0 0 0 1 1 1 {IDENTITY}")
    assert "has no lattice: expected 18 fixed parameters" in refused(path)


def test_the_second_transform_of_a_file_is_looked_at_too(tmp_path: Path) -> None:
    path = text(tmp_path / "a.tfm", "AffineTransform", f"{IDENTITY} 0 0 0", "0 0 0")
    more = text(tmp_path / "b.tfm", "BSplineTransform", "0", f"300 300 300 0 0 0 1 1 1 {IDENTITY}").read_text()
    path.write_text(path.read_text() + more.split("\n", 1)[1])
    assert "transform 1 of a.tfm claims a lattice of 300 × 300 × 300" in refused(path)


def test_a_linear_map_has_few_numbers(tmp_path: Path) -> None:
    path = text(tmp_path / "a.tfm", "AffineTransform", "0 " * 100_000, "0 0 0")
    assert "at most 64 parameters for its type, found 100000" in refused(path)


@pytest.mark.parametrize("claimed", [2**31 - 1, 10**6, -1])
def test_a_mat_file_that_is_cut_short_is_refused(tmp_path: Path, claimed: int) -> None:
    path = mat(tmp_path / "a.mat", "AffineTransform_double_3_3", [1.0] * 12, [0.0] * 3, claimed)
    assert "could not be read" in (said := refused(path)) or "cut short" in said or "no ITK transform" in said


def test_the_text_matrix_of_fsl_is_named(tmp_path: Path) -> None:
    (tmp_path / "flirt.mat").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n" * 2)
    assert "such as FSL's text" in refused(tmp_path / "flirt.mat")


def test_hdf5_that_ends_its_reader_is_refused(tmp_path: Path) -> None:
    """The control points claimed in the file's own fixed parameters, which only ITK finds."""
    content = saved(spline(), tmp_path / "a.h5").read_bytes()
    sizes = struct.pack("<3d", 7, 8, 9)
    assert content.count(sizes) == 1
    (tmp_path / "a.h5").write_bytes(content.replace(sizes, struct.pack("<3d", 30000, 30000, 30000)))
    said = refused(tmp_path / "a.h5")
    assert "ITK stopped on it" in said or "ITK does not read it" in said or "more than the" in said


@pytest.mark.parametrize("seed", range(4))
def test_damaged_hdf5_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    content = bytearray(
        saved(sitk.CompositeTransform([sitk.Euler3DTransform(), spline()]), tmp_path / "a.h5").read_bytes()
    )
    for _ in range(30):
        content[chance.randrange(len(content))] = chance.randrange(256)
    if seed == 0:
        del content[len(content) // 2 :]
    (tmp_path / "a.h5").write_bytes(content)
    with contextlib.suppress(RegistrationError):
        Registration.load(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (f"{IDENTITY} nan 0 0", "ITK does not read it"),
        (f"{IDENTITY} 1e9 0 0", "must not move the origin by more than 5000 mm along an axis; found 1e\\+09 mm"),
        (f"{IDENTITY} 1e300 0 0", r"more than 5000 mm|flatten"),
        ("1 0 0 0 1 0 0 0 0 0 0 0", "mirror or flatten"),
        ("-1 0 0 0 1 0 0 0 1 0 0 0", "mirror or flatten"),
        ("1e30 0 0 0 1e30 0 0 0 1e30 0 0 0", "keep the patient's shape"),
    ],
)
def test_absurd_matrices_are_refused(tmp_path: Path, numbers: str, said: str) -> None:
    with pytest.raises(RegistrationError, match=said):
        Registration.load(text(tmp_path / "a.tfm", "AffineTransform", numbers, "0 0 0"))


def field(tmp_path: Path, value: float, sizes: tuple[int, int, int] = (4, 4, 4), spacing: str = "40 40 40") -> Path:
    """A displacement field of one number everywhere."""
    parameters = " ".join([str(value)] * 3 * int(np.prod(sizes)))
    fixed = f"{' '.join(map(str, sizes))} -80 -80 -80 {spacing} {IDENTITY}"
    return text(tmp_path / "a.tfm", "DisplacementFieldTransform", parameters, fixed)


@pytest.mark.parametrize("value", [1e9, -6000.0, 1e30, 1e300, float("nan"), float("inf")])
def test_absurd_displacements_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(RegistrationError, match=r"more than 5000 mm; found|three finite numbers|does not read it"):
        Registration.load(field(tmp_path, value))


def test_a_field_that_is_one_point_thin_or_lies_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RegistrationError, match="at least two points along each axis"):
        Registration.load(field(tmp_path, 1.0, (4, 4, 1)))
    for spacing in ("1e38 40 40", "40 nan 40", "1e-9 40 40"):
        with pytest.raises(RegistrationError, match=r"lies nowhere|could not be read"):
            Registration.load(field(tmp_path, 1.0, spacing=spacing))


def small(shape: tuple[int, int, int] = (20, 20, 20)) -> Grid:
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = -80
    return Grid(shape, affine)


def hill(points: Points, height: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    rise = height * np.exp(-0.5 * (np.linalg.norm(points, axis=-1) / 30) ** 2)
    return np.stack([rise, 0 * rise, 0 * rise]).astype(np.float32)


def test_a_field_that_ends_inside_the_study_must_end_at_nought() -> None:
    import torch

    rng = np.random.default_rng(1)
    study = make_volume(torch.from_numpy(rng.random((1, 20, 20, 20)).astype(np.float32)), small(), modality="MR")
    lattice = Grid((9, 9, 9), np.array(small().affine) + np.array([[0, 0, 0, 48]] * 3 + [[0, 0, 0, 0]]))
    points = lattice.world(np.stack(np.meshgrid(*[np.arange(9)] * 3, indexing="ij"), axis=-1))
    ends = Warp(lattice, np.full((3, 9, 9, 9), 10, np.float32))
    with pytest.raises(
        RegistrationError, match=r"ends inside the fixed study, where it still displaces by up to 17.3 mm"
    ):
        assess_registration(Registration(np.eye(4), "file", warp=ends), study, study)
    fades = Warp(lattice, hill(points - lattice.centre, 4.0))
    covers = Warp(small(), np.full((3, 20, 20, 20), 10, np.float32))
    for warp in (fades, covers):
        assert assess_registration(Registration(np.eye(4), "file", warp=warp), study, study).verdict is not None


def test_reading_imports_nothing_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(sitk.Euler3DTransform((3.0, 4.0, 5.0), 0.1, -0.2, 0.3, (7.0, 8.0, 9.0)), tmp_path / "a.h5")
    (tmp_path / "numpy.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert Registration.load(path.name).method == "file"


@pytest.mark.parametrize("name", ["field.nii.gz", "field.nrrd", "field.MHA"])
def test_displacements_in_an_image_are_told_how_to_become_a_transform(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"any")
    assert "sitk.DisplacementFieldTransform" in refused(tmp_path / name)
