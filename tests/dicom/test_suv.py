"""SUV by the rules of QIBA's FDG-PET/CT profile, on headers as vendors write them, and as they go wrong."""

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
from medfuse.volume import SuvInputs

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


def zirconium(header):
    """An antibody with Zr-89, injected at the time of day of the scan."""
    item = drug(header)
    code = item.RadionuclideCodeSequence[0]
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "C-168A4", "SRT", "^89^Zirconium"
    del item.RadiopharmaceuticalCodeSequence
    item.Radiopharmaceutical, item.RadionuclideHalfLife = "Trastuzumab", "282240"
    item.RadiopharmaceuticalStartTime = "110000"


def test_long_lived_isotopes_count_days(pet):
    def change(header):
        zirconium(header)
        drug(header).RadiopharmaceuticalStartDateTime = "20260102110000"

    assert pet(change) == almost(FULL * 2 ** (3 * 86400 / 282240))


def test_of_long_lived_isotopes_a_time_of_day_is_not_enough(pet):
    def change(header):
        zirconium(header)
        del drug(header).RadiopharmaceuticalStartDateTime

    with pytest.raises(IntensityError, match=r"RadiopharmaceuticalStartTime has no date.*one or more days earlier"):
        pet(change)
    given = SuvInputs(injected_at="2026-01-02T11:00")
    assert pet(given=given) == almost(FULL * 2 ** (3 * 86400 / 282240))


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


def test_a_factor_of_the_scanner_holds_no_value_given_by_hand(pet):
    def change(header):
        header.Units = "CNTS"
        block = header.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0x00, "DS", "0.000551")

    given = SuvInputs(dose_mbq=500)
    with pytest.raises(IntensityError, match=r"7053,xx09"):
        pet(change, given=given)
    assert pet(given=SuvInputs(weight_kg=70)) == almost(0.000551)

    def to_activity(header):
        header.private_block(0x7053, "Philips PET Private Group").add_new(0x09, "DS", "2.5")

    assert pet(to_activity, given=given) == almost(2.5 * DECAYED / 2)


def philips(direct=None, to_activity=None):
    """Make the PET one of counts with Philips' factors to SUV and to activity."""

    def change(header):
        header.Units = "CNTS"
        block = header.private_block(0x7053, "Philips PET Private Group", create=True)
        for element, value in ((0x00, direct), (0x09, to_activity)):
            if value is not None:
                block.add_new(element, "DS", f"{value:.8g}")

    return change


def test_a_weight_given_by_hand_takes_the_place_of_the_one_in_the_scanners_factor(pet):
    assert pet(philips(direct=0.000551), given=SuvInputs(weight_kg=35)) == almost(0.000551 / 2)
    assert pet(philips(to_activity=2.5), given=SuvInputs(weight_kg=35)) == almost(2.5 * DECAYED / 2)


def test_a_weight_given_by_hand_does_not_replace_one_that_is_not_said(pet):
    def change(header):
        philips(direct=0.000551)(header)
        del header.PatientWeight

    assert pet(change) == almost(0.000551)
    with pytest.raises(IntensityError, match=r"SUV already.*PatientWeight its source lacks.*weight_kg"):
        pet(given=SuvInputs(weight_kg=35))
    assert pet(philips(to_activity=2.5), given=SuvInputs(weight_kg=35)) == almost(2.5 * DECAYED / 2)


def test_two_factors_of_the_scanner_must_agree(pet):
    def change(direct):
        def both(header):
            header.Units = "CNTS"
            block = header.private_block(0x7053, "Philips PET Private Group", create=True)
            block.add_new(0x00, "DS", f"{direct:.8g}")
            block.add_new(0x09, "DS", "2.5")

        return both

    assert pet(change(2.45 * DECAYED)) == pytest.approx(2.45 * DECAYED, rel=1e-5)
    with pytest.raises(IntensityError, match=r"7053,xx00.*7053,xx09.*--dose"):
        pet(change(1.5 * DECAYED))
    assert pet(given=SuvInputs(dose_mbq=250)) == almost(2.5 * DECAYED)


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


def injected(moment, time=None, **header_elements):
    """Change when the dose was injected; the time of day follows the moment unless it is given."""

    def change(header):
        item = drug(header)
        if moment is None:
            item.pop("RadiopharmaceuticalStartDateTime", None)
        else:
            item.RadiopharmaceuticalStartDateTime = moment
        clock = moment[8:14] if time is None else time
        if clock:
            item.RadiopharmaceuticalStartTime = clock
        else:
            item.pop("RadiopharmaceuticalStartTime", None)
        for keyword, value in header_elements.items():
            setattr(header, keyword, value)

    return change


def no_start(header):
    del header.SeriesTime, header.FrameReferenceTime


def after_start(seconds):
    return FULL * 2 ** (-seconds / HALF_LIFE_S)


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        (injected("20260105110005"), after_start(5)),
        (injected(None, "110005"), after_start(5)),
        (injected(None, "110500"), after_start(300)),
        (injected("20260105110959"), after_start(599)),
        (
            injected("20260106000005", SeriesDate="20260105", SeriesTime="235955", AcquisitionTime="235955"),
            after_start(10),
        ),
        (injected(None, "000005", SeriesTime="235955", AcquisitionTime="235955"), after_start(10)),
    ],
)
def test_a_dynamic_pet_may_begin_before_the_injection(pet, change, factor):
    assert pet(change) == almost(factor)


@pytest.mark.parametrize(
    "change",
    [
        injected("20260105081500+0000", "101500", TimezoneOffsetFromUTC="+0200"),
        injected("20260105091500+0100", "101500", TimezoneOffsetFromUTC="+0200"),
        injected("20260105151500.000000+0000", "101500", TimezoneOffsetFromUTC="-0500"),
        injected("20260105043000+0000", "101500", TimezoneOffsetFromUTC="+0545"),
        injected("20260105081500+0000", "", TimezoneOffsetFromUTC="+0200"),
        injected("202601050815+0000", "1015", TimezoneOffsetFromUTC="+0200"),
        injected("20260105101500", TimezoneOffsetFromUTC="+0200"),
        # Without the header's zone, that of a moment that is said with one and without.
        injected("20260105101500+0100"),
        injected("20260105081500+0000", "101500"),
        injected("20260105081500+0000", "", AcquisitionDateTime="20260105090000+0000"),
        injected(
            *("20260104234500+0000", "234500"),
            TimezoneOffsetFromUTC="+0000",
            SeriesTime="003000",
            AcquisitionTime="003000",
        ),
        injected(
            "20260104214500+0000", "234500", TimezoneOffsetFromUTC="+0200", SeriesTime="003000", AcquisitionTime="0030"
        ),
        injected(None, "234500", TimezoneOffsetFromUTC="+0200", SeriesTime="003000", AcquisitionTime="003000"),
    ],
)
def test_moments_are_compared_by_one_clock(pet, change):
    assert pet(change) == almost(DECAYED)


def test_what_was_inferred_is_recorded(pet, tmp_path):
    def change(header):
        injected("20260105081500+0000", "101500")(header)
        del drug(header).RadionuclideHalfLife

    assert pet(change) == pytest.approx(DECAYED, rel=1e-3)
    record = to_suv(medfuse.load(tmp_path / "pet")).meta["suv"]
    assert [text.split(" ")[0] for text in record["inferred"]] == ["half-life", "zone"]
    assert (record["given"], record["overridden"], record["injected_before_s"]) == ({}, [], 2700)


def elements(of=lambda header: header, **values):
    def change(header):
        for keyword, value in values.items():
            setattr(of(header), keyword, value)

    return change


def nuclide(value, scheme, meaning):
    def change(header):
        code = drug(header).RadionuclideCodeSequence[0]
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning

    return change


def unnamed(half_life):
    """No word of the nuclide."""

    def change(header):
        item = drug(header)
        del item.RadionuclideCodeSequence, item.RadiopharmaceuticalCodeSequence, item.Radiopharmaceutical
        item.RadionuclideHalfLife = half_life

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (injected("20260105111500"), r"StartDateTime dates the injection 15 min after.*ActualFrameDuration"),
        (injected(None, "111500"), r"StartTime dates the injection 15 min after.*ActualFrameDuration"),
        (injected("20260104101500"), r"StartDateTime dates the injection 24.8 h before.*13.5 half-lives"),
        (injected("20260105113000", "101500"), "StartTime and RadiopharmaceuticalStartDateTime.*75 min apart"),
        (injected("20260105101500+0000", TimezoneOffsetFromUTC="+0200"), "120 min apart"),
        (injected("20260105081500+0000", ""), "RadiopharmaceuticalStartDateTime and SeriesTime.*TimezoneOffsetFromUTC"),
        (injected("20260105101500", TimezoneOffsetFromUTC="CET"), "TimezoneOffsetFromUTC"),
        (injected("20260105101500", TimezoneOffsetFromUTC="+1500"), "TimezoneOffsetFromUTC"),
        (injected("20260105+0200", "101500"), "RadiopharmaceuticalStartDateTime of the PET is no date with a time"),
        (injected(None, "10"), "RadiopharmaceuticalStartTime"),
        (injected(None, "200000"), "StartTime dates the injection 9 h after"),
        (elements(SeriesTime="103000"), "SeriesTime.*AcquisitionTime less FrameReferenceTime.*30 min apart"),
        (elements(SeriesDate="20260104"), "SeriesDate.*24 h before.*AcquisitionDate"),
        (elements(AcquisitionDateTime="20260105123000"), "AcquisitionTime and AcquisitionDateTime"),
        (elements(drug, RadionuclideTotalDose="250"), "RadionuclideTotalDose.*found 250 Bq, perhaps in MBq.*--dose"),
        (elements(drug, RadionuclideTotalDose="0.25"), "RadionuclideTotalDose.*perhaps in GBq"),
        (elements(drug, RadionuclideTotalDose="250000"), "RadionuclideTotalDose.*perhaps in kBq"),
        (elements(drug, RadionuclideTotalDose="2.5e14"), "RadionuclideTotalDose"),
        (elements(drug, RadionuclideHalfLife="109.77"), "RadionuclideHalfLife.*F-18.*perhaps in minutes.*--nuclide"),
        (elements(drug, RadionuclideHalfLife="1.8295"), "perhaps in hours"),
        (elements(drug, RadionuclideHalfLife="1221.7"), "RadionuclideHalfLife.*RadionuclideCodeSequence"),
        (unnamed("109.77"), "RadionuclideHalfLife.*no radionuclide known"),
        (nuclide("C-105A1", "SRT", "^11^Carbon"), "RadionuclideCodeSequence names C-11.*names F-18"),
        (nuclide("77004003", "SCT", "^11^Carbon"), "RadionuclideCodeSequence names F-18.*CodeMeaning.*names C-11"),
        (elements(PatientWeight="70000"), "PatientWeight from 0.5 to 350 kg; found 70000, perhaps in g.*--weight"),
        (elements(PatientWeight="0.07"), "PatientWeight"),
        (elements(DecayCorrection="NONE"), "DecayCorrection is NONE, but CorrectedImage holds DECY"),
        (elements(CorrectedImage=["ATTN"]), "DecayCorrection is START, but CorrectedImage lacks DECY"),
        (elements(DecayFactor="1.37"), "DecayCorrection is START.*DecayFactor from 0.9.*found 1.37"),
        (elements(PatientWeight="1.75", PatientSize="70"), "PatientWeight and PatientSize of one body.*--weight"),
        (elements(PatientWeight="7", PatientSize="1.75"), r"found 7 kg and 1.75 m, which is 2.29 kg/m²"),
    ],
)
def test_what_cannot_be_is_refused(pet, change, named):
    with pytest.raises(IntensityError, match=named) as refused:
        pet(change)
    assert "202601" not in str(refused.value)
    assert "101500" not in str(refused.value)


@pytest.mark.parametrize(
    ("keyword", "of"),
    [
        ("PatientWeight", lambda header: header),
        ("RadionuclideTotalDose", drug),
        ("RadiopharmaceuticalStartDateTime", drug),
    ],
)
def test_slices_that_disagree_have_no_common_factor(pet, keyword, of):
    def change(header):
        if header.InstanceNumber == 2:
            value = str(of(header)[keyword].value)
            setattr(of(header), keyword, value[:-1] + ("1" if value[-1] != "1" else "2"))

    with pytest.raises(IntensityError, match=f"{keyword} differs between the slices"):
        pet(change)


def test_values_that_were_not_corrected_hold_for_the_mean_of_their_frame(pet):
    rate = math.log(2) / HALF_LIFE_S
    mean = math.log(rate * 600 / -math.expm1(-rate * 600)) / rate
    change = elements(DecayCorrection="NONE", CorrectedImage=["ATTN"])
    assert pet(change) == almost(FULL * 2 ** ((2700 + mean) / HALF_LIFE_S))

    def at_another_time(header):
        header.AcquisitionTime = f"11{header.InstanceNumber:02d}00"

    with pytest.raises(IntensityError, match="AcquisitionTime or ActualFrameDuration differs"):
        pet(at_another_time)


@pytest.mark.parametrize(
    "change",
    [nuclide("C-111A1", "SRT", "Fluorine 18"), nuclide("77004003", "SCT", ""), nuclide("unknown", "99VENDOR", "F-18")],
)
def test_a_missing_half_life_is_that_of_the_nuclide(pet, change):
    def both(header):
        change(header)
        del drug(header).RadionuclideHalfLife, drug(header).Radiopharmaceutical
        del drug(header).RadiopharmaceuticalCodeSequence

    assert pet(both) == pytest.approx(DECAYED, rel=5e-4)


def nothing_known(header):
    for keyword in ("RadionuclideTotalDose", "RadiopharmaceuticalStartDateTime", "RadiopharmaceuticalStartTime"):
        drug(header).pop(keyword, None)
    header.pop("PatientWeight", None)


@pytest.mark.parametrize(
    "change",
    [
        elements(DecayFactor="1.0321"),
        # As of a bed that was measured 20 min after the start, by the one or the other element.
        elements(DecayFactor="1.169", FrameReferenceTime="1200000", AcquisitionTime="110000", ActualFrameDuration=None),
        elements(DecayFactor="1.169", FrameReferenceTime="299000", AcquisitionTime="112000", ActualFrameDuration=None),
        elements(PatientSize="175"),
        elements(PatientSize="0"),
    ],
)
def test_what_agrees_or_says_nothing_is_no_contradiction(pet, change):
    assert pet(change) == almost(DECAYED)


@pytest.mark.parametrize("given", [{"weight_kg": "70"}, {"dose_mbq": True}, {"height_m": [1.7]}, {"sex": "m"}])
def test_what_is_given_by_hand_is_a_number_or_a_sex(given):
    with pytest.raises(IntensityError, match=f"expected {next(iter(given))} as"):
        SuvInputs(**given)


@pytest.mark.parametrize("injected_at", ["10:15", "10:15:00", "2026-01-05T10:15", "2026-01-05 10:15:00"])
def test_what_the_header_lacks_is_given_by_hand(pet, injected_at):
    with pytest.raises(IntensityError, match=r"RadionuclideTotalDose.*--dose"):
        pet(nothing_known)
    with pytest.raises(IntensityError, match=r"RadiopharmaceuticalStartTime.*--injected-at"):
        pet(given=SuvInputs(dose_mbq=250, weight_kg=70))
    assert pet(given=SuvInputs(dose_mbq=250, injected_at=injected_at, weight_kg=70)) == almost(DECAYED)


def test_a_time_given_by_hand_may_have_a_zone(pet):
    given = SuvInputs(dose_mbq=250, injected_at="2026-01-05T08:15:00Z", weight_kg=70)
    with pytest.raises(IntensityError, match="TimezoneOffsetFromUTC"):
        pet(nothing_known, given=given)
    assert pet(elements(TimezoneOffsetFromUTC="+0200"), given=given) == almost(DECAYED)


def test_a_pet_without_any_word_of_its_tracer_needs_the_nuclide_too(pet):
    known = {"dose_mbq": 250, "injected_at": "10:15"}
    with pytest.raises(IntensityError, match=r"RadiopharmaceuticalInformationSequence.*--nuclide"):
        pet(without("RadiopharmaceuticalInformationSequence"), given=SuvInputs(**known))
    assert pet(given=SuvInputs(**known, nuclide="18F")) == pytest.approx(DECAYED, rel=5e-4)
    with pytest.raises(IntensityError, match="expected a radionuclide"):
        pet(given=SuvInputs(**known, nuclide="unobtainium"))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"dose_mbq": 250e6}, "--dose"),
        ({"dose_mbq": -1}, "--dose"),
        ({"dose_mbq": math.nan}, "--dose"),
        ({"weight_kg": 70000}, "--weight.*perhaps in g"),
        ({"injected_at": "23:15"}, "--injected-at.*after the scan's SeriesTime"),
        ({"injected_at": "yesterday"}, "--injected-at.*HH:MM"),
    ],
)
def test_what_is_given_by_hand_is_checked_likewise(pet, given, named):
    with pytest.raises(IntensityError, match=named):
        pet(given=SuvInputs(**given))


def test_what_is_given_by_hand_goes_first_and_is_recorded(pet, tmp_path):
    given = SuvInputs(dose_mbq=125, injected_at="11:00", weight_kg=35)
    assert pet(given=given) == almost(FULL)
    record = to_suv(medfuse.load(tmp_path / "pet"), given=given).meta["suv"]
    assert record["given"] == {"dose_mbq": 125, "weight_kg": 35, "injected_at": "given by hand"}
    assert record["overridden"] == ["RadionuclideTotalDose", "RadiopharmaceuticalStartDateTime", "PatientWeight"]
    agreeing = SuvInputs(dose_mbq=250, injected_at="10:15", weight_kg=70)
    assert to_suv(medfuse.load(tmp_path / "pet"), given=agreeing).meta["suv"]["overridden"] == []


LBM = {"F": 44.172803, "M": 54.475239}
"""Lean body mass of 70 kg and 1.7 m by Janmahasatian (2005), kg: 648900 over 8780 + 244 and 6680 + 216 times "
"24.22145."""


@pytest.mark.parametrize("sex", ["F", "M"])
def test_the_dose_may_be_divided_by_lean_body_mass(pet, tmp_path, sex):
    pet(elements(PatientSize="1.7", PatientSex=sex))
    volume = medfuse.load(tmp_path / "pet")
    converted = to_suv(volume, normalisation="lbm")
    assert converted.meta["unit"] == "SUVlbm"
    assert converted.meta["suv"]["factor"] == almost(DECAYED * LBM[sex] / 70)


def test_the_dose_may_be_divided_by_body_surface_area(pet, tmp_path):
    pet(elements(PatientSize="1.7"))
    converted = to_suv(medfuse.load(tmp_path / "pet"), normalisation="bsa")
    assert converted.meta["unit"] == "SUVbsa"
    # 1.81 m² by the nomogram of Du Bois
    assert converted.meta["suv"]["factor"] == pytest.approx(DECAYED / 70000 * 1.81e4, rel=2e-3)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            elements(PatientSize="170", PatientSex="F"),
            "PatientSize from 0.2 to 2.5 m; found 170, perhaps in cm.*--height",
        ),
        (elements(PatientSex="F"), "PatientSize.*--height"),
        (elements(PatientSize="1.7", PatientSex="O"), "PatientSex F or M.*--sex"),
    ],
)
def test_lean_body_mass_needs_height_and_sex(pet, tmp_path, change, named):
    pet(change)
    volume = medfuse.load(tmp_path / "pet")
    with pytest.raises(IntensityError, match=named):
        to_suv(volume, normalisation="lbm")
    given = SuvInputs(height_m=1.7, sex="F")
    assert to_suv(volume, normalisation="lbm", given=given).meta["suv"]["factor"] == almost(DECAYED * LBM["F"] / 70)
    with pytest.raises(IntensityError, match="normalisation"):
        to_suv(volume, normalisation="ibw")


@pytest.mark.parametrize(
    ("units", "suv_type", "unit"),
    [
        *(("GML", "BW", "SUV"), ("GML", None, "SUV"), ("GML", "LBMJANMA", "SUVlbm"), ("CM2ML", "BSA", "SUVbsa")),
        *(("GML", "LBM", "arbitrary"), ("GML", "IBW", "arbitrary"), ("GML", "BSA", "arbitrary")),
        *(("CM2ML", None, "arbitrary"), ("BQML", None, "Bq/ml"), ("PROPCNTS", None, "arbitrary")),
    ],
)
def test_the_kind_of_suv_is_read_as_the_header_says(pet, tmp_path, units, suv_type, unit):
    def change(header):
        header.Units = units
        if suv_type:
            header.SUVType = suv_type

    for path in (tmp_path / "pet").iterdir():
        header = pydicom.dcmread(path)
        change(header)
        header.save_as(path)
    assert medfuse.load(tmp_path / "pet").meta["unit"] == unit


def test_an_suv_is_turned_into_another(pet, tmp_path):
    assert pet(elements(Units="GML", PatientSize="1.7", PatientSex="M")) == 1
    volume = medfuse.load(tmp_path / "pet")
    assert to_suv(volume, normalisation="lbm").meta["suv"]["factor"] == almost(LBM["M"] / 70)
    with pytest.raises(IntensityError, match=r"SUV already.*dose_mbq"):
        to_suv(volume, given=SuvInputs(dose_mbq=250))
    by_hand = to_suv(volume, given=SuvInputs(weight_kg=35)).meta["suv"]
    assert by_hand["factor"] == almost(0.5)
    assert by_hand["overridden"] == ["PatientWeight"]
    # The scanner's SUV is of 70 kg, whatever the patient weighs.
    twice = to_suv(volume, normalisation="lbm", given=SuvInputs(weight_kg=35)).meta["suv"]["factor"]
    assert twice == almost(9270 * 35 / (6680 + 216 * 35 / 1.7**2) / 70)


def test_of_an_suv_without_a_weight_it_may_be_given_to_turn_it_into_another(pet, tmp_path):
    def change(header):
        elements(Units="GML", PatientSize="1.7", PatientSex="M")(header)
        del header.PatientWeight

    assert pet(change) == 1
    volume = medfuse.load(tmp_path / "pet")
    with pytest.raises(IntensityError, match="PatientWeight"):
        to_suv(volume, normalisation="lbm")
    record = to_suv(volume, normalisation="lbm", given=SuvInputs(weight_kg=70)).meta["suv"]
    assert record["factor"] == almost(LBM["M"] / 70)
    assert record["inferred"] == ["PatientWeight in the source's SUV: as given by hand"]


@pytest.mark.parametrize("factors", [philips(direct=0.000551), lambda header: setattr(header, "Units", "GML")])
@pytest.mark.parametrize(
    ("keyword", "value"), [("CorrectedImage", ["DECY", "SCAT"]), ("AttenuationCorrectionMethod", "NONE")]
)
def test_a_factor_of_the_scanner_makes_no_suv_without_correction_for_attenuation(pet, factors, keyword, value):
    def change(header):
        factors(header)
        setattr(header, keyword, value)

    with pytest.raises(IntensityError, match=f"attenuation .*{keyword}"):
        pet(change)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without("RadionuclideTotalDose", drug), "RadionuclideTotalDose"),
        (lambda header: (unnamed("1")(header), without("RadionuclideHalfLife", drug)(header)), "RadionuclideHalfLife"),
        (without("RadiopharmaceuticalInformationSequence"), "RadiopharmaceuticalInformationSequence"),
        (without("DecayCorrection"), "DecayCorrection"),
        (without("Units"), "Units must be"),
        (lambda header: setattr(header, "Units", "CNTS"), "Philips"),
        (lambda header: setattr(header, "CorrectedImage", ["DECY"]), "ATTN"),
        (lambda header: setattr(drug(header), "RadionuclideTotalDose", "0"), "RadionuclideTotalDose"),
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
    dataset.AcquisitionDateTime, dataset.AcquisitionDuration = "20260105080000", 600.0
    dataset.save_as(enhanced)
    with pytest.raises(
        IntensityError, match=r"DecayCorrectionDateTime of the PET is 2\.83 h after AcquisitionDateTime"
    ):
        to_suv(medfuse.load(enhanced))


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


def test_the_command_takes_what_the_header_lacks_by_hand(tmp_path):
    medfuse.phantom_study("PT", coarsen=5).write_dicom(tmp_path / "study")
    expected = to_suv(medfuse.load(tmp_path / "study" / "partner")).meta["suv"]["factor"]
    for path in (tmp_path / "study" / "partner").iterdir():
        header = pydicom.dcmread(path)
        dose, weight = float(drug(header).RadionuclideTotalDose), float(header.PatientWeight)
        nothing_known(header)
        header.save_as(path)
    study, out = str(tmp_path / "study"), tmp_path / "out"
    given = [
        "--dose",
        str(dose / 1e6),
        "--injected-at",
        "10:15",
        "--weight",
        str(weight),
        "--height",
        "1.7",
        "--sex",
        "F",
    ]
    flags = ["--align", "header", "--format", "both", "--json", "--out", str(out)]
    done = CliRunner().invoke(app, ["fuse", study, study, *flags, *given, "--suv-by", "lbm", "--deidentify"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)["provenance"]["partner_suv"]
    lean = 9270 / (8780 + 244 * weight / 1.7**2)
    assert record["factor"] == almost(expected * lean)
    by_hand = dict.fromkeys(("injected_at", "weight_kg", "height_m", "sex"), "given by hand")
    assert record["given"] == {"dose_mbq": dose / 1e6} | by_hand
    assert json.loads((out / "fused.json").read_text())["Medfuse"]["partner_unit"] == "SUVlbm"
    written = pydicom.dcmread(next((out / "dicom").iterdir()))
    assert "values given by hand (dose_mbq, injected_at, weight_kg, height_m, sex)" in written.DerivationDescription

    done = CliRunner().invoke(app, ["fuse", study, study, *flags[:-1], str(tmp_path / "lacking"), "--suv"])
    assert done.exit_code != 0
    assert "--dose" in done.output
    done = CliRunner().invoke(app, ["fuse", study, study, *flags, "--overwrite", *given[:4]])
    assert "PatientWeight" in done.output
    assert "--weight" in done.output


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda header: setattr(drug(header), "RadionuclideTotalDose", "-250000000"), r"found -2\.5e\+08 Bq"),
        (lambda header: setattr(drug(header), "RadionuclideTotalDose", "0"), "found 0 Bq"),
        (lambda header: setattr(drug(header), "RadionuclideHalfLife", "-6586"), "RadionuclideHalfLife .* found -6586"),
        (lambda header: setattr(header, "PatientWeight", "-70"), "PatientWeight from 0.5 to 350 kg; found -70"),
        (lambda header: setattr(header, "PatientWeight", "0"), "PatientWeight from 0.5 to 350 kg; found 0"),
        (lambda header: delattr(header, "RescaleSlope"), "RescaleSlope in all slices"),
    ],
)
def test_what_cannot_be_is_named_and_not_called_absent(pet, change, told):
    with pytest.raises(IntensityError, match=told):
        pet(change)
