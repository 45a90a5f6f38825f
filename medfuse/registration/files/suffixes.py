"""List the suffixes of files that hold a registration, apart from DICOM."""

from __future__ import annotations

ITK_SUFFIXES = (".tfm", ".h5", ".hdf5", ".mat")
READ_SUFFIXES = (".txt", *ITK_SUFFIXES)
FIELD_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz")
"""Images, which other programs keep displacements in; the units and directions of such are told by no header."""

WRITTEN_SUFFIXES = (".tfm", ".h5", ".txt")
