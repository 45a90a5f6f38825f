"""Look up colour palettes: the one of fused pictures, and the Standard's well-known ones, which pydicom holds."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pydicom.data
from pydicom import dcmread
from pydicom.dataset import Dataset

from medfuse.intensity.palette_join import violet_to_orange
from medfuse.volume import require_palette


@cache
def palette_table(name: str) -> npt.NDArray[np.float32]:
    """Return a palette as (256, 3) float32 RGB in [0, 1], read-only; the Standard's are those of PS3.6 Annex B.

    Raises
    ------
    IntensityError
        If there is no palette of this name.
    """
    require_palette(name)
    table = violet_to_orange() if name == "violet-to-orange" else _standard_table(name)
    table.setflags(write=False)
    return table


def _standard_table(name: str) -> npt.NDArray[np.float32]:
    file = pydicom.data.get_palette_files(f"{name.replace('-', '')}.dcm")[0]
    palette = dcmread(file, force=True)
    channels = [
        np.frombuffer(palette[f"{colour}PaletteColorLookupTableData"].value, dtype=np.uint8)
        for colour in ("Red", "Green", "Blue")
    ]
    return np.stack(channels, axis=1).astype(np.float32) / np.float32(255)


def describe_palette(dataset: Dataset, name: str) -> None:
    """Write a palette's table of 256 colours into a dataset (PS3.3 C.7.9)."""
    table = np.rint(palette_table(name) * 255).astype(np.uint8)
    for colour, values in zip(("Red", "Green", "Blue"), table.T, strict=True):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", values.tobytes())
