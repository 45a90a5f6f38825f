"""SUV by the rules of QIBA's FDG-PET/CT profile, on headers as vendors write them."""

import json
import math

import numpy as np
import pydicom
import pytest
from enhanced import enhance
from synthetic import acquired, oblique_grid
from typer.testing import CliRunner

import medfuse
from medfuse.cli import app
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import IntensityError
from medfuse.intensity.suv import to_suv
from medfuse.pipeline.transforms import ToSuvd

DOSE_BQ, HALF_LIFE_S, WEIGHT_KG = 250e6, 6586.2, 70
"""What `write_acquisition` writes: injected at 10:15, scanned from 11:00."""

FULL = WEIGHT_KG * 1000 / DOSE_BQ
DECAYED = FULL * 2 ** (45 * 60 / HALF_LIFE_S)


@pytest.fixture
def pet(tmp_path):
    """A folder with a PET series, and a function that changes its headers and returns the factor to SUV."""
    volume, _, _ = acquired(oblique_grid(), "PT")
    write_acquisition(volume, tmp_path / "pet", study=1, series_number=4)

    def factor(change=lambda header: None, **given):
        for path in (tmp_path / "pet").iterdir():
            header = pydicom.dcmread(path)
            change(header)
            header.save_as(path)
        loaded = medfuse.load(tmp_path / "pet")
        converted = to_suv(loaded, **given)
        assert converted.meta["unit"] == "SUV"
        np.testing.assert_array_equal(converted.affine, loaded.affine)
        ratio = converted.as_tensor().double() / loaded.as_tensor().double()
        ratio = ratio[loaded.as_tensor() > 0]
        assert float(ratio.max() - ratio.min()) < 1e-6 * float(ratio.mean())
        return float(ratio.mean())

    return factor


def drug(header):
    return header.RadiopharmaceuticalInformationSequence[0]


def almost(value):
    return pytest.approx(value, rel=1e-5)


def test_the_dose_decays_until_the_scan_begins(pet):
    assert pet() == almost(DECAYED)
    assert pytest.approx(3.7202e-4, rel=1e-4) == DECAYED


def test_values_that_are_corrected_to_the_injection_need_no_decay(pet):
    assert pet(lambda header: setattr(header, "DecayCorrection", "ADMIN")) == almost(FULL)


def test_a_time_of_day_may_be_of_the_day_before(pet):
    def change(header):
        del drug(header).RadiopharmaceuticalStartDateTime
        drug(header).RadiopharmaceuticalStartTime = "234500"
        header.SeriesDate = header.AcquisitionDate = "20260106"
        header.SeriesTime = header.AcquisitionTime = "003000"

    assert pet(change) == almost(DECAYED)


def test_long_lived_isotopes_count_days(pet):
    def change(header):
        drug(header).RadionuclideHalfLife = "282240"
        drug(header).RadiopharmaceuticalStartDateTime = "20260102110000"

    assert pet(change) == almost(FULL * 2 ** (3 * 86400 / 282240))


def test_a_later_series_time_is_not_taken_for_the_scans(pet):
    """The frame's mean activity is at its reference time, counted from the scan's start, five minutes before it."""
    mean = HALF_LIFE_S / math.log(2)
    faded = 600 / mean
    since = mean * math.log(faded / (1 - math.exp(-faded)))

    def change(header):
        header.SeriesTime = "150000"
        header.AcquisitionTime = "110500"
        header.ActualFrameDuration, header.FrameReferenceTime = 600000, f"{(300 + since) * 1000:.6f}"

    assert pet(change) == almost(DECAYED)


def test_ge_keeps_the_scans_time_where_the_series_was_made_later(pet):
    def change(header):
        header.SeriesTime = "150000"
        header.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(0x0D, "DT", "20260105110000.00")

    assert pet(change) == almost(DECAYED)


def test_philips_counts_have_a_factor_of_their_own(pet):
    def change(header):
        header.Units = "CNTS"
        header.private_block(0x7053, "Philips PET Private Group", create=True).add_new(0x00, "DS", "0.000551")

    assert pet(change) == almost(0.000551)


def test_philips_counts_may_lead_to_activity(pet):
    def change(header):
        header.Units = "CNTS"
        block = header.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0x00, "UN", b"0 ")
        block.add_new(0x09, "UN", b"2.5 ")

    assert pet(change) == almost(2.5 * DECAYED)


def test_what_is_suv_already_stays(pet):
    assert pet(lambda header: setattr(header, "Units", "GML")) == 1


def test_suv_of_lean_body_mass_is_not_taken_for_that_of_body_weight(pet):
    def change(header):
        header.Units, header.SUVType = "GML", "LBM"

    with pytest.raises(IntensityError, match="unit of the PET is not known"):
        pet(change)


def test_the_weight_may_be_given_where_the_header_has_none(pet):
    def change(header):
        del header.PatientWeight

    with pytest.raises(IntensityError, match=r"PatientWeight.*weight_kg"):
        pet(change)
    assert pet(weight_kg=35.0) == almost(DECAYED / 2)


def without(keyword, of=lambda header: header):
    def change(header):
        delattr(of(header), keyword)

    return change


def injected_later(header):
    drug(header).RadiopharmaceuticalStartDateTime = "20260105120000"


def no_start(header):
    del header.SeriesTime, header.FrameReferenceTime


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without("RadionuclideTotalDose", drug), "RadionuclideTotalDose"),
        (without("RadionuclideHalfLife", drug), "RadionuclideHalfLife"),
        (without("RadiopharmaceuticalInformationSequence"), "RadiopharmaceuticalInformationSequence"),
        (without("DecayCorrection"), "DecayCorrection"),
        (without("Units"), "Units must be"),
        (lambda header: setattr(header, "Units", "CNTS"), "Philips"),
        (lambda header: setattr(header, "CorrectedImage", ["DECY"]), "ATTN"),
        (lambda header: setattr(drug(header), "RadionuclideTotalDose", "0"), "RadionuclideTotalDose"),
        (injected_later, "injection after the scan"),
        (no_start, "SeriesTime"),
    ],
)
def test_what_is_missing_is_named(pet, change, named):
    with pytest.raises(IntensityError, match=named):
        pet(change)


def test_an_enhanced_pet_says_when_its_values_hold(tmp_path):
    volume, _, _ = acquired(oblique_grid(), "PT")
    write_acquisition(volume, tmp_path / "pet", study=1, series_number=4)

    enhanced = enhance([tmp_path / "pet"], tmp_path / "enhanced.dcm")
    dataset = pydicom.dcmread(enhanced)
    dataset.DecayCorrected = dataset.AttenuationCorrected = "YES"
    dataset.DecayCorrectionDateTime = "20260105110000"
    dataset.save_as(enhanced)
    loaded = medfuse.load(enhanced)
    converted = to_suv(loaded)
    assert float(converted.max() / loaded.max()) == almost(DECAYED)


SIDECAR = {
    "Units": "Bq/mL",
    "InjectedRadioactivity": 250,
    "InjectedRadioactivityUnits": "MBq",
    "RadionuclideHalfLife": HALF_LIFE_S,
    "ImageDecayCorrected": True,
    "ImageDecayCorrectionTime": 0,
    "InjectionStart": -2700,
    "PatientWeight": 70,
    "PatientName": "Doe^Jo",
}


@pytest.fixture
def nifti_pet(tmp_path):
    import nibabel as nib

    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    nib.Nifti1Image(values, np.diag([-2.0, 2, 3, 1])).to_filename(tmp_path / "pet.nii.gz")

    def load(**changed):
        said = {name: value for name, value in (SIDECAR | changed).items() if value is not None}
        (tmp_path / "pet.json").write_text(json.dumps(said))
        return medfuse.load(tmp_path / "pet.nii.gz", "PT")

    return load


def test_a_nifti_pet_is_known_by_its_sidecar(nifti_pet):
    loaded = nifti_pet()
    assert loaded.meta["unit"] == "Bq/ml"
    assert float(to_suv(loaded).max() / loaded.max()) == almost(DECAYED)
    assert "PatientName" not in loaded.meta["source"].sidecar
    assert ToSuvd("pet")({"pet": loaded})["pet"].meta["unit"] == "SUV"


@pytest.mark.parametrize("name", sorted(SIDECAR.keys() - {"PatientName", "ImageDecayCorrected"}))
def test_what_the_sidecar_lacks_is_named(nifti_pet, name):
    with pytest.raises(IntensityError, match=name):
        to_suv(nifti_pet(**{name: None}))


def test_a_sidecar_that_is_no_json_is_refused(nifti_pet, tmp_path):
    nifti_pet()
    (tmp_path / "pet.json").write_text("{")
    with pytest.raises(IntensityError, match="not readable JSON"):
        medfuse.load(tmp_path / "pet.nii.gz", "PT")


def test_only_pet_has_an_suv():
    volume, _, _ = acquired(oblique_grid(), "CT")
    with pytest.raises(IntensityError, match="found CT"):
        to_suv(volume)


def test_the_command_shows_and_writes_suv(tmp_path):
    medfuse.phantom_study("PT", coarsen=5).write_dicom(tmp_path / "study")
    study = str(tmp_path / "study")
    flags = ["--suv", "--window", "10", "--align", "header", "--with-partner", "--format", "dicom", "--json"]
    done = CliRunner().invoke(app, ["fuse", study, study, *flags, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    written = pydicom.dcmread(next((tmp_path / "out" / "partner").iterdir()))
    assert (written.Units, written.SUVType) == ("GML", "BW")
    again = medfuse.load(tmp_path / "out" / "partner")
    assert again.meta["unit"] == "SUV"
    expected = float(to_suv(medfuse.load(tmp_path / "study" / "partner")).max())
    assert 0.7 * expected < float(again.max()) <= 1.001 * expected
