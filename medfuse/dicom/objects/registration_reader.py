"""Read an alignment from a Spatial Registration object of any program (PS3.3 A.39.1, C.20.2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import SpatialRegistrationStorage

from medfuse.dicom.header import numbers, quiet
from medfuse.dicom.objects.read_object import kind_of, read_object
from medfuse.errors import RegistrationError, counted
from medfuse.volume.grid import LPS_FROM_RAS

Matrix = npt.NDArray[np.float64]

TYPES = ("RIGID", "RIGID_SCALE", "AFFINE")
"""What a matrix may be called (PS3.3 C.20.2.1.2)."""

ROUNDED = 1e-3
"""How far the entries of a matrix that is called rigid may be from that: some programs write four digits."""

SAME = 1e-6
"""How far two matrices of one frame of reference may differ and still be one."""


def read_alignment(path: str | Path, fixed_frame: str | None, moving_frame: str | None) -> Matrix:
    """Read the map between two frames of reference from a Spatial Registration object.

    Each of its items says how one frame of reference, in LPS+ mm, leads into the object's own, the registered one. It
    does not matter which of the two studies is that one, if any.

    Parameters
    ----------
    path
        The file, or a folder with this file alone.
    fixed_frame, moving_frame
        FrameOfReferenceUID of the fixed and of the moving study; None where a study has none.

    Returns
    -------
    ndarray
        (4, 4) float64, fixed → moving, RAS+ mm.

    Raises
    ------
    RegistrationError
        If the file is no Spatial Registration, its matrices are not what they say, or it says nothing of a study.
    """
    with quiet():
        dataset = _registration(Path(path))
        to_common = _by_frame(dataset)
    if fixed_frame is None or moving_frame is None:
        study = "MRI" if fixed_frame is None else "partner"
        raise RegistrationError(
            f"a DICOM registration joins two frames of reference; the {study} has no FrameOfReferenceUID. Give the "
            "alignment as .tfm or .txt, or read both studies from DICOM."
        )
    for study, frame in (("MRI", fixed_frame), ("partner", moving_frame)):
        if frame not in to_common:
            raise RegistrationError(
                f"the registration joins {counted(len(to_common), 'frame')} of reference, and none is the {study}'s. "
                "Give the one that was made of these two studies."
            )
    lps = np.linalg.inv(to_common[moving_frame]) @ to_common[fixed_frame]
    return np.asarray(LPS_FROM_RAS @ lps @ LPS_FROM_RAS)


def alignment_of(dataset: Dataset) -> dict[str, Matrix]:
    """Each referenced instance's UID and the (4, 4) matrix to the registered world, RAS+ mm."""
    found = {}
    for item in dataset.RegistrationSequence:
        matrix = LPS_FROM_RAS @ _matrix_of(item) @ LPS_FROM_RAS
        found.update({str(image.ReferencedSOPInstanceUID): matrix for image in item.get("ReferencedImageSequence", [])})
    return found


def _registration(path: Path) -> Dataset:
    dataset = read_object(path, "registration", RegistrationError)
    if dataset.get("SOPClassUID") != SpatialRegistrationStorage:
        raise RegistrationError(
            f"expected a Spatial Registration, rigid or affine, in {path}; found {kind_of(dataset)}."
        )
    try:
        items = len(dataset.get("RegistrationSequence") or [])
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise RegistrationError(f"{path} could not be read as DICOM; check the path and the file.") from error
    if not items:
        raise RegistrationError(f"{path} is a Spatial Registration without any item; export it again.")
    return dataset


def _by_frame(dataset: Dataset) -> dict[str, Matrix]:
    """The matrix of each frame of reference to the registered one, LPS+ mm."""
    found: dict[str, Matrix] = {}
    for item in dataset.RegistrationSequence:
        frame = str(item.get("FrameOfReferenceUID") or "")
        if not frame:
            continue  # refers to images alone: their frame of reference is unknown
        matrix = _matrix_of(item)
        if not np.allclose(found.setdefault(frame, matrix), matrix, rtol=0, atol=SAME):
            raise RegistrationError(
                "the registration moves images of one frame of reference differently; which of its maps is meant "
                "is unknown. Give the alignment as .tfm or .txt."
            )
    registered = str(dataset.get("FrameOfReferenceUID") or "")
    if registered:
        found.setdefault(registered, np.eye(4))
    return found


def _matrix_of(item: Dataset) -> Matrix:
    """From the item's frame of reference to the registered one: its matrices, the first applied first (C.20.2.1.1)."""
    registrations = item.get("MatrixRegistrationSequence") or []
    steps = registrations[0].get("MatrixSequence") or [] if len(registrations) == 1 else []
    if not steps:
        raise RegistrationError("an item of the registration holds no matrix; export it again.")
    matrix = np.eye(4)
    for step in steps:
        matrix = _step(step) @ matrix
    return matrix


def _step(step: Dataset) -> Matrix:
    entries = numbers(step, "FrameOfReferenceTransformationMatrix")
    if len(entries) != 16 or not np.allclose(entries[12:], (0, 0, 0, 1), rtol=0, atol=1e-9):
        raise RegistrationError(
            f"a matrix of the registration must have 16 finite numbers, row by row, the last four 0 0 0 1; found "
            f"{counted(len(entries), 'number')}{f', the last {entries[12:]}' if len(entries) == 16 else ''}. Export it "
            "again."
        )
    matrix = np.array(entries).reshape(4, 4)
    kind = step.get("FrameOfReferenceTransformationMatrixType")
    if kind not in TYPES:
        raise RegistrationError(f"expected a matrix of type {', '.join(TYPES)} in the registration; found another.")
    if not _is(kind, matrix[:3, :3]):
        raise RegistrationError(
            f"a matrix of the registration is called {kind}, but shears, mirrors or stretches; its numbers or its type "
            "are wrong. Export it again."
        )
    if abs(np.linalg.det(matrix)) < 1e-6:
        raise RegistrationError("a matrix of the registration cannot be inverted; export it again.")
    return matrix


def _is(kind: str, linear: Matrix) -> bool:
    """Whether a (3, 3) matrix is of its type (C.20.2.1.2)."""
    if kind == "AFFINE":
        return True
    # A scale may come before the rotation or after it.
    products = linear.T @ linear, linear @ linear.T
    wanted = [np.diag(np.diag(product)) if kind == "RIGID_SCALE" else np.eye(3) for product in products]
    close = any(np.allclose(*pair, rtol=0, atol=ROUNDED) for pair in zip(products, wanted, strict=True))
    return close and float(np.linalg.det(linear)) > 0
