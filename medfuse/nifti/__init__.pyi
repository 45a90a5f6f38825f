from .header import SUFFIXES, NiftiSource, is_nifti
from .other_formats import require_known_name, what_else
from .reading import holds_colours, read, read_fused, read_grid, read_size
from .writing import dataset_description, write, write_measured, write_parts

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
