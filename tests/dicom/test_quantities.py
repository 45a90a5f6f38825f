"""What emission scans measure: units wherever a header says them, other spellings of activity, and what is written."""

from copy import deepcopy

import numpy as np
import pydicom
import pytest
from enhanced import one
from pydicom.sequence import Sequence
from synthetic import acquired, oblique_grid
from written_series import GRIDS, provenance, sources, validate

import medfuse
from medfuse.dicom import write_partner
from medfuse.dicom.header import code_value
from medfuse.dicom.scanning.scan import scan
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import IntensityError, SeriesError
from medfuse.intensity.suv import to_suv
from medfuse.registration import resample
from medfuse.volume import activity_per_ml, becquerels_in, grid_of, source_of


@pytest.mark.parametrize(
    ("text", "factor"),
    [
        *(
            ("Bq/ml", 1),
            ("Bq/mL", 1),
            ("BQML", 1),
            ("bq/ml", 1),
            ("BQ/ML", 1),
            ("Bq/cc", 1),
            ("Bq/cm3", 1),
            ("Bq/cm^3", 1),
        ),
        *(("Bq.ml-1", 1), ("Bq mL^-1", 1), ("Bq/cm³", 1), ("Bq·mL", None), ("Bq*ml", None), ("Bq/ml-1", None)),
        *(("kBq/ml", 1e3), ("kBq/mL", 1e3), ("KBQML", 1e3), ("kBq/cc", 1e3), ("kBq / mL", 1e3), ("MBq/ml", 1e6)),
        *(
            ("MBQML", 1e6),
            ("GBq/l", 1e6),
            ("Bq/l", 1e-3),
            ("MBq/L", 1e3),
            ("nCi/cc", 37),
            ("nCi/ml", 37),
            ("uCi/ml", 3.7e4),
        ),
        *(("µCi/mL", 3.7e4), ("mCi/ml", 3.7e7), ("mBq/ml", None), ("Bq", None), ("g/ml", None), ("", None)),
        *(("counts", None), ("xBq/ml", None), ("Bq/mlx", None), ("cps/ml", None)),
    ],
)
def test_activity_is_known_in_every_spelling(text, factor):
    assert activity_per_ml(text) == (factor if factor is None else pytest.approx(factor))


@pytest.mark.parametrize(
    ("text", "factor"),
    [
        ("MBq", 1e6),
        ("mBq", None),
        ("GBq", 1e9),
        ("kBq", 1e3),
        ("Bq", 1),
        ("mCi", 37e6),
        ("MBq/ml", None),
        ("n/a", None),
    ],
)
def test_doses_are_known_in_every_unit(text, factor):
    assert becquerels_in(text) == factor


def mapping(code, slope=12.5, intercept=0.0, scheme="UCUM"):
    units = one(CodeValue=code, CodingSchemeDesignator=scheme, CodeMeaning="unit")
    found = one(RealWorldValueSlope=slope, RealWorldValueIntercept=intercept, MeasurementUnitsCodeSequence=units)[0]
    found.add_new(0x00409216, "US", 0)
    found.add_new(0x00409211, "US", 65535)
    return found


def at_top(*mappings, **elements):
    return {"RealWorldValueMappingSequence": Sequence(mappings)} | elements


def shared(*mappings):
    return {"SharedFunctionalGroupsSequence": one(RealWorldValueMappingSequence=Sequence(mappings))}


def per_frame(*mappings):
    frames = [one(RealWorldValueMappingSequence=deepcopy(Sequence(mappings)))[0] for _ in range(13)]
    return {"PerFrameFunctionalGroupsSequence": Sequence(frames)}


@pytest.fixture
def spect(tmp_path):
    """A function that writes a SPECT with other elements and loads it, beside the stored numbers."""
    volume, _, _ = acquired(oblique_grid(), "NM")
    write_acquisition(volume, tmp_path / "nm", study=1, series_number=6)
    path = next((tmp_path / "nm").iterdir())
    stored = medfuse.load(tmp_path / "nm").as_tensor().double()

    def load(elements):
        header = pydicom.dcmread(path)
        for keyword, value in elements.items():
            setattr(header, keyword, value)
        header.save_as(path)
        return medfuse.load(tmp_path / "nm"), stored

    return load


@pytest.mark.parametrize(
    ("elements", "unit", "factor"),
    [
        ({}, "counts", 1),
        (at_top(mapping("Bq/ml")), "Bq/ml", 12.5),
        (at_top(mapping("kBq/ml", 0.0125)), "Bq/ml", 12.5),
        (at_top(mapping("MBq/mL", 1e-5)), "Bq/ml", 10),
        (at_top(mapping("{counts}", 2.0)), "counts", 2),
        (at_top(mapping("g/ml{SUVbw}", 0.001)), "SUV", 0.001),
        (at_top(mapping("1", 0.001)), "arbitrary", 0.001),
        (at_top(mapping("g/ml{SUVbw}", 0.001), mapping("Bq/ml")), "Bq/ml", 12.5),
        (at_top(mapping("Bq/ml"), RescaleSlope="2", RescaleIntercept="0"), "Bq/ml", 12.5),
        (shared(mapping("Bq/ml")), "Bq/ml", 12.5),
        (per_frame(mapping("kBq/ml", 0.02)), "Bq/ml", 20),
        ({"RescaleSlope": "3", "RescaleIntercept": "0", "RescaleType": "BQML"}, "Bq/ml", 3),
        ({"RescaleSlope": "3", "RescaleIntercept": "0", "RescaleType": "kBq/ml"}, "Bq/ml", 3000),
        ({"RescaleSlope": "3", "RescaleIntercept": "0", "RescaleType": "US"}, "counts", 3),
    ],
)
def test_quantitative_spect_says_its_unit_in_many_places(spect, elements, unit, factor):
    loaded, stored = spect(elements)
    assert loaded.meta["unit"] == unit
    np.testing.assert_allclose(loaded.as_tensor(), stored * factor, rtol=1e-6)


def test_a_unit_that_is_said_twice_must_agree(spect):
    rescale = {"RescaleSlope": "12.5", "RescaleIntercept": "0", "RescaleType": "BQML"}
    assert spect(at_top(mapping("kBq/ml", 0.0125), **rescale))[0].meta["unit"] == "Bq/ml"
    with pytest.raises(SeriesError, match=r"RescaleType says.*1 Bq/ml, but MeasurementUnitsCodeSequence.*1000 Bq/ml"):
        spect(at_top(mapping("kBq/ml"), **rescale))


def test_a_pet_of_two_units_is_listed_as_it_is_loaded(tmp_path):
    volume, _, _ = acquired(oblique_grid(), "PT")
    write_acquisition(volume, tmp_path, study=1, series_number=4)
    for path in tmp_path.iterdir():
        header = pydicom.dcmread(path)
        header.RealWorldValueMappingSequence = Sequence([mapping("kBq/ml", float(header.RescaleSlope))])
        header.save_as(path)
    (found,) = scan(tmp_path).series
    assert found.brief == "contradicting units"
    with pytest.raises(SeriesError, match=r"Units says.*1 Bq/ml, but MeasurementUnitsCodeSequence.*1000 Bq/ml"):
        medfuse.load(tmp_path)


def test_frames_in_different_units_are_refused(spect):
    groups = per_frame(mapping("Bq/ml"))
    groups["PerFrameFunctionalGroupsSequence"][3].RealWorldValueMappingSequence[0].RealWorldValueSlope = 25.0
    with pytest.raises(SeriesError, match="different units"):
        spect(groups)


def test_a_written_spect_keeps_its_unit(tmp_path):
    mri, partner = sources(tmp_path, GRIDS["oblique"], "NM")
    path = next((tmp_path / "partner").iterdir())
    header = pydicom.dcmread(path)
    header.RealWorldValueMappingSequence = Sequence([mapping("kBq/ml", 0.0125)])
    header.save_as(path)
    partner = medfuse.load(tmp_path / "partner")
    moved = resample(partner, grid_of(mri), None, outside=0.0)
    write_partner(moved, tmp_path / "moved", mri=source_of(mri), provenance=provenance("NM"))
    written = pydicom.dcmread(tmp_path / "moved" / "0001.dcm")
    code = written.RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("Bq/ml", "UCUM")
    back = medfuse.load(tmp_path / "moved")
    assert back.meta["unit"] == "Bq/ml"
    np.testing.assert_allclose(back.max(), moved.max(), rtol=1e-4)


@pytest.mark.parametrize(
    ("normalisation", "units", "suv_type", "code"),
    [
        ("bw", "GML", "BW", "g/ml{SUVbw}"),
        ("lbm", "GML", "LBMJANMA", "g/ml{SUVlbm(Janma)}"),
        ("bsa", "CM2ML", "BSA", "cm2/ml{SUVbsa}"),
    ],
)
def test_each_suv_is_written_by_its_own_name(tmp_path, normalisation, units, suv_type, code):
    mri, _ = sources(tmp_path, GRIDS["oblique"], "PT")
    for path in (tmp_path / "partner").iterdir():
        header = pydicom.dcmread(path)
        header.PatientSize, header.PatientSex, header.TimezoneOffsetFromUTC = "1.7", "F", "+0200"
        header.save_as(path)
    partner = to_suv(medfuse.load(tmp_path / "partner"), normalisation=normalisation)
    moved = resample(partner, grid_of(mri), None, outside=0.0)
    write_partner(moved, tmp_path / "moved", mri=source_of(mri), provenance=provenance())
    written = pydicom.dcmread(tmp_path / "moved" / "0001.dcm")
    assert (written.Units, written.SUVType, written.TimezoneOffsetFromUTC) == (units, suv_type, "+0200")
    assert code_value(written.RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence[0]) == code
    assert medfuse.load(tmp_path / "moved").meta["unit"] == partner.meta["unit"]
    report = validate(["dciodvfy", "-new", tmp_path / "moved" / "0001.dcm"])
    # The validator does not know the Standard's term for cm²/ml.
    assert [line for line in report.splitlines() if "<CM2ML>" not in line] == ["PETImage"]


def test_a_pet_in_kilobecquerels_is_converted(tmp_path):
    volume, _, _ = acquired(oblique_grid(), "PT")
    write_acquisition(volume, tmp_path / "pet", study=1, series_number=4)
    before = medfuse.load(tmp_path / "pet")
    for path in (tmp_path / "pet").iterdir():
        header = pydicom.dcmread(path)
        header.Units = "KBQML"
        header.add_new("PixelPaddingValue", "US", 0)
        header.save_as(path)
    loaded = medfuse.load(tmp_path / "pet")
    assert (loaded.meta["unit"], loaded.meta["padding"]) == ("Bq/ml", 0)
    np.testing.assert_allclose(loaded.as_tensor(), before.as_tensor() * 1000, rtol=1e-6)


@pytest.mark.parametrize("units", ["BQML", "KBQML", "GML"])
def test_a_pet_that_lost_its_rescale_is_in_no_unit(tmp_path, units):
    volume, _, _ = acquired(oblique_grid(), "PT")
    write_acquisition(volume, tmp_path / "pet", study=1, series_number=4)
    for path in (tmp_path / "pet").iterdir():
        header = pydicom.dcmread(path)
        header.Units = units
        del header.RescaleSlope, header.RescaleIntercept
        header.save_as(path)
    loaded = medfuse.load(tmp_path / "pet")
    assert loaded.meta["unit"] == "arbitrary"
    with pytest.raises(IntensityError, match="RescaleSlope"):
        to_suv(loaded)
