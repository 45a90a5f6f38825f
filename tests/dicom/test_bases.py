"""Sources that are hard to write from: tilted MRIs, and enhanced CT and PET as scanners write them."""

from datetime import datetime

import numpy as np
import pydicom
import pytest
from realistic import enhance_ct, enhance_pet
from synthetic import acquired, oblique_grid
from typer.testing import CliRunner
from written_series import fused_on, provenance, validate

import medfuse
from medfuse.cli import app
from medfuse.dicom import require_measurable, write_partner, write_series
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import ExportError, GeometryError
from medfuse.intensity.suv import to_suv
from medfuse.pipeline.transforms import Straightend
from medfuse.registration import resample
from medfuse.verify import verify
from medfuse.volume import grid_of, source_of
from medfuse.volume.grid import Grid


def factor(volume):
    return to_suv(volume).meta["suv"]["factor"]


def tilted(grid, degrees):
    """Slices that each lie shifted along their columns, as with a tilted gantry."""
    affine = np.array(grid.affine)
    affine[:3, 2] += np.tan(np.radians(degrees)) * grid.spacing[2] * grid.directions[:, 1]
    return Grid(grid.shape, affine)


@pytest.mark.parametrize("degrees", [-20, 12])
@pytest.mark.parametrize("flip", [1, -1])
def test_an_upright_grid_covers_a_tilted_one_and_keeps_its_slices(degrees, flip):
    upright = oblique_grid((20, 24, 9))
    turned = Grid(upright.shape, upright.affine @ np.diag([1, 1, flip, 1]))
    grid = tilted(turned, degrees)
    assert not grid.upright
    straight = grid.straightened()
    assert straight.upright
    assert turned.upright
    assert turned.straightened() is turned
    # The same planes, and not one voxel less.
    np.testing.assert_allclose(straight.spacing, turned.spacing, atol=1e-9)
    np.testing.assert_allclose(straight.directions, turned.directions, atol=1e-9)
    assert straight.shape[0] == 20
    assert straight.shape[2] == 9
    inside = straight.index(grid.corners())
    assert (inside > -1e-3).all()
    assert (inside < np.array(straight.shape) - 1 + 1e-3).all()
    shift = np.tan(np.radians(abs(degrees))) * 8 * turned.spacing[2] / turned.spacing[1]
    assert straight.shape[1] == 24 + np.ceil(shift)


def test_straightening_moves_no_voxel():
    mri, scale, offset = acquired(tilted(oblique_grid((20, 24, 9)), 15))
    straight = Straightend("mri")({"mri": mri})["mri"]
    assert grid_of(straight).upright
    index = np.stack(np.meshgrid(*map(np.arange, straight.shape[1:]), indexing="ij"), -1)
    inside = grid_of(mri).index(grid_of(straight).world(index))
    inside = ((inside >= 0) & (inside <= np.array(mri.shape[1:]) - 1)).all(-1)
    assert inside.sum() > 3000
    values = straight.as_tensor()[0].numpy() * scale + offset
    expected = grid_of(straight).world(index) @ np.array([1.0, 2.0, 3.0])
    assert np.abs(values - expected)[inside].max() < 0.03
    upright, _, _ = acquired(oblique_grid((20, 24, 9)))
    assert Straightend("mri")({"mri": upright})["mri"] is upright


@pytest.mark.validator
def test_a_tilted_mri_is_straightened_and_every_reader_places_the_result(tmp_path):
    write_acquisition(acquired(tilted(oblique_grid((34, 36, 9)), 15))[0], tmp_path / "mri", study=1, series_number=2)
    write_acquisition(
        acquired(oblique_grid((20, 20, 20), (2, 2, 2)), "CT")[0], tmp_path / "ct", study=1, series_number=3
    )
    arguments = ["fuse", tmp_path / "mri", tmp_path / "ct", "--out", tmp_path / "out", "--align", "header"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--with-partner"])
    assert done.exit_code == 0, done.output
    report = verify(tmp_path / "out", [tmp_path / "mri", tmp_path / "ct"])
    assert report.faults == []
    assert {one.reader for one in report.readings} >= {"SimpleITK", "dcm2niix, nibabel"}
    first = pydicom.dcmread(tmp_path / "out" / "dicom" / "0001.dcm")
    assert "Tilted MR slices interpolated once" in first.DerivationDescription
    assert first.SourceImageSequence[0].SpatialLocationsPreserved == "NO"


def test_tilted_volumes_are_not_written_as_they_are(tmp_path):
    mri, _, _ = acquired(tilted(oblique_grid(), 15))
    with pytest.raises(GeometryError, match=r"tilt of 15\.00 degrees"):
        write_series(mri, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def pair(tmp_path, request):
    """An MRI, and the path of an enhanced partner of another study."""
    modality, enhance = {"CT": ("CT", enhance_ct), "PT": ("PT", enhance_pet)}[request.param]
    write_acquisition(acquired(oblique_grid((34, 36, 9)))[0], tmp_path / "mri", study=1, series_number=2)
    write_acquisition(
        acquired(oblique_grid((16, 18, 14), (2, 2, 2)), modality)[0], tmp_path / "classic", study=4, series_number=3
    )
    enhance(tmp_path / "classic", tmp_path / "partner" / "1.dcm")
    return tmp_path


BOTH = pytest.mark.parametrize("pair", ["CT", "PT"], indirect=True)


@pytest.mark.validator
@BOTH
def test_a_realistic_enhanced_partner_becomes_a_valid_classic_series(pair, monkeypatch):
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.RAISE)
    enhanced = pair / "partner" / "1.dcm"
    kind = {"CT": "CTImage", "PT": "PETImage"}[pydicom.dcmread(enhanced).Modality]
    assert validate(["dciodvfy", "-new", enhanced]) == f"Enhanced{kind}"
    mri, partner = medfuse.load(pair / "mri"), medfuse.load(pair / "partner")
    require_measurable(partner)
    done = provenance(partner.meta["modality"])
    moved = resample(partner, grid_of(mri), None, outside=0.0)
    write_partner(moved, pair / "moved", mri=source_of(mri), provenance=done)
    write_series(fused_on(mri, 3), pair / "out", partner=source_of(partner), provenance=done)
    for path in sorted((pair / "moved").iterdir()):
        assert validate(["dciodvfy", "-new", path]) == kind
    files = [path for name in ("mri", "partner", "moved", "out") for path in sorted((pair / name).iterdir())]
    assert validate(["dcentvfy", *files]) == ""


@BOTH
def test_what_was_acquired_how_is_translated(pair):
    mri, partner = medfuse.load(pair / "mri"), medfuse.load(pair / "partner")
    moved = resample(partner, grid_of(mri), None, outside=0.0)
    write_partner(moved, pair / "moved", mri=source_of(mri), provenance=provenance(partner.meta["modality"]))
    first = pydicom.dcmread(pair / "moved" / "0001.dcm")
    if first.Modality == "CT":
        assert (first.KVP, first.ConvolutionKernel, first.XRayTubeCurrent, first.ExposureTime) == (
            120,
            "H30s",
            250,
            1000,
        )
        return
    assert list(first.CorrectedImage) == ["DECY", "ATTN", "SCAT", "DTIM", "RAN", "DCAL", "NORM"]
    assert (first.DecayCorrection, first.Units, first.CountsSource) == ("START", "BQML", "EMISSION")
    assert first.ActualFrameDuration == 600000
    assert first.FrameReferenceTime == 302000  # from the series' own time to the middle of the frame
    back = medfuse.load(pair / "moved")
    assert factor(back) == pytest.approx(factor(partner), rel=1e-9)


@pytest.mark.parametrize("pair", ["PT"], indirect=True)
@pytest.mark.parametrize(
    ("zone", "injected", "corrected"),
    [
        ("+0200", "101500", "110000"),
        ("+0200", "081500+0000", "090000+0000"),
        ("+0200", "081500+0000", "100000+0100"),
        (None, "101500+0200", "110000+0200"),
        (None, "081500+0000", "110000+0200"),
    ],
)
def test_an_enhanced_pet_is_timed_by_one_clock(pair, zone, injected, corrected):
    mri = medfuse.load(pair / "mri")
    expected = factor(medfuse.load(pair / "partner"))
    path = next((pair / "partner").iterdir())
    header = pydicom.dcmread(path)
    day = str(header.SeriesDate)
    if zone:
        header.TimezoneOffsetFromUTC = zone
    header.DecayCorrectionDateTime = day + corrected
    item = header.RadiopharmaceuticalInformationSequence[0]
    item.RadiopharmaceuticalStartDateTime = day + injected
    item.pop("RadiopharmaceuticalStartTime", None)
    header.save_as(path)
    partner = medfuse.load(pair / "partner")
    assert factor(partner) == pytest.approx(expected, rel=1e-9)
    moved = resample(partner, grid_of(mri), None, outside=0.0)
    write_partner(moved, pair / "moved", mri=source_of(mri), provenance=provenance())
    first = pydicom.dcmread(pair / "moved" / "0001.dcm")
    assert (first.SeriesTime, first.TimezoneOffsetFromUTC) == ("110000", "+0200")
    assert factor(medfuse.load(pair / "moved")) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("pair", ["PT"], indirect=True)
def test_the_time_of_decay_correction_is_kept_or_refused(pair):
    first = pydicom.dcmread(next((pair / "classic").iterdir()))
    day = str(first.SeriesDate)
    injected = str(first.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime)[:6]
    mri = medfuse.load(pair / "mri")
    for text, expected in ((injected, "ADMIN"), ("105500", "START")):
        moment = datetime.strptime(day + text, "%Y%m%d%H%M%S")
        enhance_pet(pair / "classic", pair / text / "1.dcm", corrected_to=moment)
        partner = medfuse.load(pair / text)
        moved = resample(partner, grid_of(mri), None, outside=0.0)
        write_partner(moved, pair / expected, mri=source_of(mri), provenance=provenance())
        back = medfuse.load(pair / expected)
        assert source_of(back).first.DecayCorrection == expected
        assert factor(back) == pytest.approx(factor(partner), rel=1e-9)
    late = datetime.strptime(day + "180000", "%Y%m%d%H%M%S")
    enhance_pet(pair / "classic", pair / "late" / "1.dcm", corrected_to=late)
    with pytest.raises(ExportError, match="after its acquisition began"):
        require_measurable(medfuse.load(pair / "late"))
