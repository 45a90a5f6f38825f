"""Every form, modality and transfer syntax that the documentation says is read: each voxel in its place."""

import pytest
from dcm2niix_oracle import dcm2niix, nearest, needs_dcm2niix
from mosaics import siemens_mosaic, uih_grid
from supported_formats import FORMS, SYNTAXES, store
from synthetic import acquired, oblique_grid, worst_linear_error

import medfuse
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import SeriesError

CASES = [(form, modality) for form, (modalities, _) in FORMS.items() for modality in modalities]


def made(tmp_path, form, modality):
    """A folder with one world-linear series, and the scale and offset back to x + 2y + 3z."""
    volume, scale, offset = acquired(oblique_grid((66, 70, 5)), modality)
    write_acquisition(volume, tmp_path / "classic", study=1, series_number=4)
    FORMS[form][1](tmp_path / "classic", tmp_path / "made")
    return tmp_path / "made", scale, offset


@pytest.mark.parametrize(("form", "modality"), CASES)
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_voxel_is_in_its_place(tmp_path, form, modality, syntax):
    folder, scale, offset = made(tmp_path, form, modality)
    store(folder, SYNTAXES[syntax])
    loaded = medfuse.load(folder)
    assert loaded.meta["modality"] == modality
    assert worst_linear_error(loaded, scale, offset) < 0.02


@needs_dcm2niix
@pytest.mark.validator
@pytest.mark.parametrize("make", [siemens_mosaic, uih_grid])
def test_dcm2niix_unfolds_tiles_alike(tmp_path, make):
    volume, _, _ = acquired(oblique_grid((32, 32, 13), spacing=(2, 2, 2.7)))
    write_acquisition(volume, tmp_path / "classic", study=1, series_number=4)
    loaded = medfuse.load(make(tmp_path / "classic", tmp_path / "made"))
    apart, different = nearest(loaded, dcm2niix(tmp_path / "made", tmp_path / "out"))
    assert (apart < 1e-3, different) == (True, 0)


def test_the_older_form_of_the_private_header(tmp_path):
    volume, scale, offset = acquired(oblique_grid())
    write_acquisition(volume, tmp_path / "classic", study=1, series_number=4)
    loaded = medfuse.load(siemens_mosaic(tmp_path / "classic", tmp_path / "made", older=True))
    assert worst_linear_error(loaded, scale, offset) < 0.02


def test_a_grid_that_lacks_positions_is_refused(tmp_path):
    import pydicom

    folder, _, _ = made(tmp_path, "UIH grid", "MR")
    header = pydicom.dcmread(folder / "1.dcm")
    del header.private_block(0x0065, "Image Private Header")[0x51].value[2].ImagePositionPatient
    header.save_as(folder / "1.dcm")
    with pytest.raises(SeriesError, match="grid of 5 slices"):
        medfuse.load(folder)
