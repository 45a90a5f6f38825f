"""What is sent."""

import pytest
from synthetic import oblique_grid
from written_series import fused_on, provenance, sources

from medfuse.dicom import DicomOptions, write_partner, write_series
from medfuse.registration import resample
from medfuse.volume import grid_of


@pytest.fixture
def export(tmp_path):
    """A fused series, packed, and the partner beside it."""
    mri, partner = sources(tmp_path / "study", oblique_grid((17, 22, 7)))
    options = DicomOptions(compression="rle")
    write_series(fused_on(mri, 3), tmp_path / "out" / "dicom", provenance=provenance(), options=options)
    moved = resample(partner, grid_of(mri), None, outside=0.0)
    write_partner(moved, tmp_path / "out" / "partner", mri=mri.meta["source"], provenance=provenance())
    return tmp_path / "out"
