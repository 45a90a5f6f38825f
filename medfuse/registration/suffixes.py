"""List the suffixes of files that hold a registration, apart from DICOM."""

from __future__ import annotations

ITK_SUFFIXES = (".tfm", ".h5", ".hdf5", ".mat")
READ_SUFFIXES = (".txt", *ITK_SUFFIXES)
WRITTEN_SUFFIXES = (".tfm", ".h5", ".txt")
