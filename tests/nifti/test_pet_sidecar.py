"""What the JSON file beside a NIfTI PET says of its uptake, right and wrong."""

import codecs
import json

import nibabel as nib
import numpy as np
import pytest

import medfuse
from medfuse.errors import IntensityError
from medfuse.intensity.suv import to_suv
from medfuse.volume import SuvInputs

SIDECAR = {
    "Units": "Bq/mL",
    "TracerRadionuclide": "F18",
    "InjectedRadioactivity": 250,
    "InjectedRadioactivityUnits": "MBq",
    "RadionuclideHalfLife": 6586.2,
    "TimeZero": "11:00:00",
    "ScanStart": 0,
    "InjectionStart": -2700,
    "ImageDecayCorrected": True,
    "ImageDecayCorrectionTime": 0,
    "PatientWeight": 70,
}

FULL = 70000 / 250e6
DECAYED = FULL * 2 ** (2700 / 6586.2)


@pytest.fixture
def pet(tmp_path):
    """A function that writes a PET with a changed sidecar and loads it."""
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    nib.Nifti1Image(values, np.diag([-2.0, 2, 3, 1])).to_filename(tmp_path / "pet.nii.gz")

    def load(encoding="utf-8", modality="PT", **changed):
        said = {name: value for name, value in (SIDECAR | changed).items() if value is not None}
        (tmp_path / "pet.json").write_bytes(json.dumps(said).encode(encoding))
        return medfuse.load(tmp_path / "pet.nii.gz", modality)

    return load


def factor(volume, **given):
    return to_suv(volume, given=SuvInputs(**given)).meta["suv"]["factor"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_no_part_of_the_text(pet, encoding):
    assert factor(pet(encoding)) == pytest.approx(DECAYED)


@pytest.mark.parametrize("text", [b"{", codecs.BOM_UTF8 + b"{", b"[" * 100000, b"\xff\xfe\x00", b"\0"])
def test_what_is_no_json_is_refused(pet, tmp_path, text):
    pet()
    (tmp_path / "pet.json").write_bytes(text)
    with pytest.raises(IntensityError, match="not readable JSON"):
        medfuse.load(tmp_path / "pet.nii.gz", "PT")


@pytest.mark.parametrize(
    ("units", "unit", "scale"),
    [
        *(("Bq/mL", "Bq/ml", 1), ("BQML", "Bq/ml", 1), ("kBq/mL", "Bq/ml", 1e3), ("kBq/cc", "Bq/ml", 1e3)),
        *(("MBq/mL", "Bq/ml", 1e6), ("nCi/cc", "Bq/ml", 37), ("SUV", "SUV", 1), ("SUVbw", "SUV", 1), ("GML", "SUV", 1)),
        *(("SUVlbm", "SUVlbm", 1), ("CNTS", "counts", 1), ("mBq/mL", "arbitrary", 1), ("g/mol", "arbitrary", 1)),
        (["Bq/mL"], "arbitrary", 1),
    ],
)
@pytest.mark.parametrize("modality", ["PT", "NM"])
def test_units_are_known_in_many_spellings(pet, units, unit, scale, modality):
    loaded = pet(modality=modality, Units=units)
    assert loaded.meta["unit"] == unit
    np.testing.assert_allclose(loaded.as_tensor().numpy().ravel(), np.arange(60) * scale, rtol=1e-6)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"Units": "kBq/mL"}, DECAYED),
        ({"InjectedRadioactivity": 0.25, "InjectedRadioactivityUnits": "GBq"}, DECAYED),
        ({"InjectedRadioactivity": "250"}, DECAYED),
        ({"RadionuclideTotalDose": 251e6}, DECAYED * 250 / 251),
        ({"RadionuclideHalfLife": None}, FULL * 2 ** (2700 / 6584.04)),
        ({"DecayCorrection": "ADMIN", "ImageDecayCorrectionTime": -2700}, FULL),
        ({"DecayCorrection": "START", "ImageDecayCorrectionTime": None}, DECAYED),
        ({"InjectionStart": 5}, FULL * 2 ** (-5 / 6586.2)),
        (
            {
                "SpecificRadioactivity": 125,
                "SpecificRadioactivityUnits": "MBq/ug",
                "InjectedMass": 2000,
                "InjectedMassUnits": "ng",
            },
            DECAYED,
        ),
    ],
)
def test_the_factor_follows_what_is_said(pet, changed, expected):
    assert factor(pet(**changed)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"InjectedRadioactivityUnits": "Bq"}, r"InjectedRadioactivity.*found 250 Bq, perhaps in MBq"),
        ({"InjectedRadioactivityUnits": "mBq"}, "InjectedRadioactivityUnits"),
        ({"InjectedRadioactivityUnits": "GBq"}, "InjectedRadioactivity"),
        ({"RadionuclideTotalDose": 250}, "RadionuclideTotalDose is 250 Bq, but InjectedRadioactivity 2.5e"),
        ({"RadionuclideHalfLife": 109.77}, r"RadionuclideHalfLife.*TracerRadionuclide.*perhaps in minutes"),
        ({"TracerRadionuclide": "C11"}, r"RadionuclideHalfLife.*C-11"),
        ({"Radiopharmaceutical": "PiB C-11"}, "TracerRadionuclide names F-18, but Radiopharmaceutical names C-11"),
        ({"PatientWeight": 70000}, r"PatientWeight.*perhaps in g"),
        ({"PatientWeight": True}, "PatientWeight"),
        ({"PatientWeight": "heavy"}, "PatientWeight"),
        ({"InjectionStart": 4000}, "InjectionStart dates the injection 66.7 min after"),
        ({"InjectionStart": -90000}, r"InjectionStart.*half-lives"),
        ({"ImageDecayCorrected": False}, "not corrected for decay"),
        (
            {"DecayCorrection": "START", "ImageDecayCorrected": False},
            "DecayCorrection is START, but ImageDecayCorrected",
        ),
        ({"DecayCorrection": "NONE"}, "DecayCorrection is NONE, but ImageDecayCorrected true"),
        (
            {"DecayCorrection": "ADMIN"},
            "DecayCorrection is ADMIN, but ImageDecayCorrectionTime is 0 s and InjectionStart",
        ),
        (
            {"DecayCorrection": "START", "ImageDecayCorrectionTime": -2700},
            "DecayCorrection is START.*ImageDecayCorrectionTime is -2700 s and ScanStart 0 s",
        ),
        (
            {
                "SpecificRadioactivity": 12.5,
                "SpecificRadioactivityUnits": "MBq/ug",
                "InjectedMass": 2,
                "InjectedMassUnits": "ug",
            },
            "InjectedRadioactivity is 2.5e.*SpecificRadioactivity times InjectedMass 2.5e",
        ),
    ],
)
def test_what_cannot_be_is_refused(pet, changed, named):
    volume = pet(**changed)
    with pytest.raises(IntensityError, match=named):
        to_suv(volume)


def test_what_the_sidecar_lacks_is_given_by_hand(pet):
    lacking = dict.fromkeys(
        ("InjectedRadioactivity", "InjectedRadioactivityUnits", "InjectionStart", "PatientWeight", "TracerRadionuclide")
    )
    given = {"dose_mbq": 250, "injected_at": "10:15", "weight_kg": 70}
    assert factor(pet(**lacking), **given) == pytest.approx(DECAYED)
    over_midnight = pet(**lacking, TimeZero="00:30:00")
    assert factor(over_midnight, **given | {"injected_at": "23:45"}) == pytest.approx(DECAYED)
    with pytest.raises(IntensityError, match="no date"):
        factor(pet(**lacking), **given | {"injected_at": "2026-01-05T10:15"})
    with pytest.raises(IntensityError, match="TimeZero"):
        factor(pet(**lacking, TimeZero=None), **given)
    record = to_suv(pet(), given=SuvInputs(**given | {"dose_mbq": 500})).meta["suv"]
    assert record["overridden"] == ["InjectedRadioactivity"]


def test_an_injection_after_the_last_frame_shows_in_none(pet):
    frames = {"FrameTimesStart": [0, 300], "FrameDuration": [300, 300], "ImageDecayCorrectionTime": 0}
    assert factor(pet(InjectionStart=60, **frames)) > 0
    with pytest.raises(IntensityError, match=r"InjectionStart .* 45 min after .* allows 10 min \(FrameDuration"):
        factor(pet(InjectionStart=2700, **frames))
    with pytest.raises(IntensityError, match=r"ImageDecayCorrectionTime .* is 39600 s, 10.8 h after the last frame"):
        factor(pet(**frames | {"ImageDecayCorrectionTime": 39600}))


@pytest.mark.parametrize("unit", ["kBq\u00b7mL\u207b\u00b9", "kBq mL^-1", "kBq/cm^3", "kBq.ml-1"])
def test_products_and_powers_are_spelled_in_many_ways(pet, unit):
    assert factor(pet(Units=unit)) == pytest.approx(DECAYED)


@pytest.mark.parametrize("said", ["none", "No", "NAC", False])
@pytest.mark.parametrize("units", ["Bq/mL", "SUV"])
def test_without_correction_for_attenuation_there_is_no_suv(pet, said, units):
    with pytest.raises(IntensityError, match=r"attenuation \(AttenuationCorrection of its JSON"):
        to_suv(pet(Units=units, AttenuationCorrection=said))


def test_a_weight_given_by_hand_takes_the_place_of_the_one_in_an_suv(pet):
    assert to_suv(pet(Units="SUV"), weight_kg=35).meta["suv"]["factor"] == pytest.approx(0.5)
    with pytest.raises(IntensityError, match="PatientWeight its source lacks"):
        to_suv(pet(Units="SUV", PatientWeight=None), weight_kg=35)
