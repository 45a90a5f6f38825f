from .grid import LPS_FROM_RAS, MOST_VOXELS, Grid, Points
from .metatensor import NO_DOSE, Source, grid_of, known_of, like, make_volume, meta_of, plain, require_volume, source_of
from .modality import MODALITIES, MRI, PALETTES, PARTNER_LABELS, PARTNERS, TRAITS, Modality, PaletteName, Traits, Unit
from .planes import DISPLAY_AXES, PLANES, Plane, as_slices, replane, require_same_grid, slice_batch, turn_of
from .slabs import LazyVolume, SlicePairs

__all__ = [
    "DISPLAY_AXES",
    "LPS_FROM_RAS",
    "MODALITIES",
    "MOST_VOXELS",
    "MRI",
    "NO_DOSE",
    "PALETTES",
    "PARTNERS",
    "PARTNER_LABELS",
    "PLANES",
    "TRAITS",
    "Grid",
    "LazyVolume",
    "Modality",
    "PaletteName",
    "Plane",
    "Points",
    "SlicePairs",
    "Source",
    "Traits",
    "Unit",
    "as_slices",
    "grid_of",
    "known_of",
    "like",
    "make_volume",
    "meta_of",
    "plain",
    "replane",
    "require_same_grid",
    "require_volume",
    "slice_batch",
    "source_of",
    "turn_of",
]
