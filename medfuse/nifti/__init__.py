"""Read and write NIfTI: nibabel, xyzt_units and form codes are known in this folder alone."""

from medfuse.nifti.header import SUFFIXES, NiftiSource, is_nifti
from medfuse.nifti.other_formats import require_known_name, what_else
from medfuse.nifti.read import holds_colours, read, read_fused, read_grid, read_size
from medfuse.nifti.write import dataset_description, write, write_measured, write_parts

__all__ = [
    "SUFFIXES",
    "NiftiSource",
    "dataset_description",
    "holds_colours",
    "is_nifti",
    "read",
    "read_fused",
    "read_grid",
    "read_size",
    "require_known_name",
    "what_else",
    "write",
    "write_measured",
    "write_parts",
]
