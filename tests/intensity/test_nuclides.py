"""Names of radionuclides in tracers' names and code meanings, their half-lives, and the days that a delay allows."""

import pytest
from pydicom.sr.codedict import codes

from medfuse.errors import IntensityError
from medfuse.intensity.decay import Limits, parse_injected_at
from medfuse.intensity.nuclides import HALF_LIVES_S, half_life_of, nuclide_in
from medfuse.volume import Stated


@pytest.mark.parametrize(
    ("text", "nuclide"),
    [
        *(("^18^Fluorine", "F-18"), ("Fluorine-18", "F-18"), ("F18", "F-18"), ("18F", "F-18"), ("[18F]FDG", "F-18")),
        *(("Fluorodeoxyglucose F^18^", "F-18"), ("FDG", "F-18"), ("fluorodeoxyglucose", "F-18"), ("18F-FDG", "F-18")),
        *(
            ("Solution of C-11 PiB", "C-11"),
            ("[11C]raclopride", "C-11"),
            ("68Ga-PSMA-11", "Ga-68"),
            ("O-15 water", "O-15"),
        ),
        *(("^94m^Technetium", "Tc-94m"), ("99mTc exametazime", "Tc-99m"), ("89Zr-trastuzumab", "Zr-89")),
        *(("PSMA-1007", None), ("MK-6240", None), ("T807F18", None), ("H2O", None), ("", None), ("F-18 or C-11", None)),
        *(("C-14 urea", None), ("Flutemetamol", None), ("iodine", None)),
    ],
)
def test_a_nuclide_is_found_in_a_name(text, nuclide):
    assert nuclide_in(text) == nuclide


def test_the_standards_codes_for_pet_are_known():
    meanings = [getattr(codes.cid4020, keyword).meaning for keyword in codes.cid4020.dir()]
    unknown = {meaning for meaning in meanings if nuclide_in(meaning) not in HALF_LIVES_S}
    assert unknown == {"^14^Oxygen", "^70^Arsenic"}  # no tracer uses them


def test_nuclides_must_agree_with_each_other_and_with_the_half_life():
    stated = [Stated(6586.2, "RadionuclideHalfLife")]
    assert half_life_of(stated, [("F-18", "code"), ("FDG", "tracer")]) == (6586.2, "")
    assert half_life_of([], [("Zr-89", "code")]) == (HALF_LIVES_S["Zr-89"], "half-life of Zr-89, which code names")
    assert half_life_of(stated, [("C-11", "code")], "F-18") == (HALF_LIVES_S["F-18"], "")
    for texts in ([("C-11", "code")], [("F-18", "code"), ("PiB C-11", "tracer")]):
        with pytest.raises(IntensityError, match="C-11"):
            half_life_of(stated, texts)
    with pytest.raises(IntensityError, match="perhaps in days"):
        half_life_of([Stated(3.267, "RadionuclideHalfLife")], [("Zr-89", "code")])


HOUR = 3600.0


@pytest.mark.parametrize(
    ("nuclide", "same_day_h", "expected_h"),
    [
        *(("F-18", 0.75, 0.75), ("F-18", -23.25, 0.75), ("F-18", -0.5, -0.5), ("F-18", 12, 12), ("F-18", 23.5, -0.5)),
        *(("C-11", -0.9, -0.9), ("C-11", 1.5, 1.5), ("Ga-68", -22.5, 1.5)),
    ],
)
def test_a_time_of_day_is_given_the_one_day_that_is_possible(nuclide, same_day_h, expected_h):
    limits = Limits(HALF_LIVES_S[nuclide])
    assert limits.choose_day(same_day_h * HOUR, "injection", "scan")[0] == pytest.approx(expected_h * HOUR)


@pytest.mark.parametrize(
    ("nuclide", "same_day_h"),
    [
        *(
            ("F-18", -2),
            ("F-18", 16),
            ("C-11", 6),
            ("Rb-82", 0.5),
            ("Zr-89", 1),
            ("Y-90", 1),
            ("I-124", 1),
            ("Cu-64", 1),
        ),
        *(("Ga-67", 1), ("In-111", -1.5), ("I-131", 1), ("Lu-177", 1), ("Zr-89", -0.5)),
    ],
)
def test_a_time_of_day_with_no_day_or_several_is_refused(nuclide, same_day_h):
    with pytest.raises(IntensityError, match="injection"):
        Limits(HALF_LIVES_S[nuclide]).choose_day(same_day_h * HOUR, "injection", "scan")


@pytest.mark.parametrize("text", ["", "soon", "10", "2026-01-05", "25:00", "2026-13-05T10:00"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(IntensityError, match="HH:MM"):
        parse_injected_at(text)
