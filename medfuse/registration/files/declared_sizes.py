"""Compare the sizes that an ITK transform file claims with the numbers it holds, before ITK believes them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medfuse.errors import RegistrationError

MOST_OF_LINEAR = 64
"""Numbers that a map without a lattice may have; ITK's linear ones have at most 15."""

LATTICE_NUMBERS = 18
"""Fixed parameters of a lattice in three dimensions: sizes, origin, spacing, direction."""

KEPT_NUMBERS = 64
"""How many numbers of a line are looked at; the rest are only counted."""

MAT_TYPES = {0: 8, 1: 4}
"""Bytes of a number in a MAT file of version 4, little endian, by its type: MOPT 0000, double; 0010, single."""


@dataclass
class Declared:
    """One transform of a file: its type, how many parameters it holds, and its fixed ones."""

    kind: str
    parameters: int = 0
    fixed: list[float] = field(default_factory=list)
    fixed_count: int = 0


def require_sizes(path: Path) -> None:
    """Raise `RegistrationError` where a ``.tfm`` or ``.mat`` claims a lattice that its parameters do not fill."""
    for number, one in enumerate(_text(path) if path.suffix == ".tfm" else _mat(path)):
        _require_consistent(one, f"transform {number} of {path.name}")


def _require_consistent(one: Declared, name: str) -> None:
    dense = "BSpline" in one.kind or "Field" in one.kind
    if not dense:
        if max(one.parameters, one.fixed_count) > MOST_OF_LINEAR:
            raise RegistrationError(
                f"{name} is no map that ITK makes: expected at most {MOST_OF_LINEAR} parameters for its type, found "
                f"{max(one.parameters, one.fixed_count)}; save it again, or give the map as .txt."
            )
        return
    sizes = one.fixed[:3]
    told = ", ".join(f"{size:g}" for size in sizes) or "nothing"
    if one.fixed_count != LATTICE_NUMBERS or not all(size > 0 and float(size).is_integer() for size in sizes):
        raise RegistrationError(
            f"{name} has no lattice: expected {LATTICE_NUMBERS} fixed parameters, the first three of them whole "
            f"numbers above 0, found {one.fixed_count} that begin with {told}; save it again."
        )
    claimed = 3 * math.prod(sizes)
    if claimed != one.parameters:
        raise RegistrationError(
            f"{name} claims a lattice of {' × '.join(f'{size:.0f}' for size in sizes)} points, which has {claimed:.0f} "
            f"parameters, but holds {one.parameters}; the file is damaged or cut short. Save it again."
        )


def _text(path: Path) -> Iterator[Declared]:
    """The transforms of a text file (ITK's TxtTransformIO)."""
    one: Declared | None = None
    with path.open("rb") as file:
        for line in file:
            name, _, rest = line.partition(b":")
            if name.strip() == b"Transform":
                if one is not None:
                    yield one
                one = Declared(rest.strip().decode("latin-1"))
            elif one is not None and name.strip() == b"Parameters":
                one.parameters = sum(1 for _ in re.finditer(rb"\S+", rest))
            elif one is not None and name.strip() == b"FixedParameters":
                one.fixed, one.fixed_count = _numbers(rest)
    if one is not None:
        yield one


def _numbers(text: bytes) -> tuple[list[float], int]:
    """The first numbers of a line, and how many it has; what is no number counts as NaN."""
    found, count = [], 0
    for count, match in enumerate(re.finditer(rb"\S+", text), start=1):
        if count <= KEPT_NUMBERS:
            try:
                found.append(float(match.group()))
            except ValueError:
                found.append(float("nan"))
    return found, count


def _mat(path: Path) -> Iterator[Declared]:
    """The transforms of a MAT file of version 4: matrices in turn, of parameters, named by the type, and fixed ones."""
    size = path.stat().st_size
    with path.open("rb") as file:
        one: Declared | None = None
        while head := file.read(20):
            kind, rows, columns, imaginary, length = np.frombuffer(head.ljust(20, b"\xff"), "<i4").tolist()
            bytes_each = MAT_TYPES.get(kind // 10, 0) if kind in (0, 10) else 0
            count, left = max(rows, 0) * max(columns, 0), size - file.tell()
            if not bytes_each or imaginary or min(rows, columns) < 0 or not 0 < length <= 256:
                raise RegistrationError(
                    f"{path.name} is no ITK transform: expected a MAT file of version 4, as ITK and ANTs write it; "
                    "found another kind of file, such as FSL's text. Give 4×4 numbers in RAS+ mm as .txt."
                )
            if length + count * bytes_each > left:
                raise RegistrationError(
                    f"{path.name} is cut short: a matrix of {rows} × {columns} numbers needs {count * bytes_each} "
                    f"bytes, and {left} are left; save it again."
                )
            name = file.read(length).rstrip(b"\0").decode("latin-1")
            if name == "fixed" and one is not None:
                kept = file.read(min(count, KEPT_NUMBERS) * bytes_each)
                one.fixed = np.frombuffer(kept, f"<f{bytes_each}").astype(np.float64).tolist()
                one.fixed_count = count
                file.seek((count - min(count, KEPT_NUMBERS)) * bytes_each, 1)
                yield one
                one = None
            else:
                one = Declared(name, count)
                file.seek(count * bytes_each, 1)
