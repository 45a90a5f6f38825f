"""Name radionuclides and their half-lives, and check a stated half-life against them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medfuse.errors import IntensityError
from medfuse.volume.uptake import Stated

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

HALF_LIVES_S = {
    "C-11": 20.361 * MINUTE,
    "N-13": 9.967 * MINUTE,
    "O-15": 122.3,
    "F-18": 1.8289 * HOUR,
    "Na-22": 950.4 * DAY,
    "K-38": 7.64 * MINUTE,
    "Sc-43": 3.891 * HOUR,
    "Sc-44": 4.0 * HOUR,
    "Ti-45": 184.8 * MINUTE,
    "Mn-51": 46.2 * MINUTE,
    "Mn-52": 5.591 * DAY,
    "Mn-52m": 21.1 * MINUTE,
    "Fe-52": 8.275 * HOUR,
    "Cu-60": 23.7 * MINUTE,
    "Cu-61": 3.336 * HOUR,
    "Cu-62": 9.67 * MINUTE,
    "Cu-64": 12.701 * HOUR,
    "Cu-67": 61.83 * HOUR,
    "Zn-62": 9.19 * HOUR,
    "Ga-66": 9.49 * HOUR,
    "Ga-67": 3.2613 * DAY,
    "Ga-68": 67.71 * MINUTE,
    "Ge-68": 270.93 * DAY,
    "As-72": 26.0 * HOUR,
    "Se-73": 7.15 * HOUR,
    "Br-75": 96.7 * MINUTE,
    "Br-76": 16.2 * HOUR,
    "Br-77": 57.04 * HOUR,
    "Rb-82": 75.5,
    "Y-86": 14.74 * HOUR,
    "Y-90": 64.05 * HOUR,
    "Zr-89": 78.41 * HOUR,
    "Nb-90": 14.6 * HOUR,
    "Tc-94m": 52.0 * MINUTE,
    "Tc-99m": 6.0067 * HOUR,
    "In-111": 2.8048 * DAY,
    "I-120": 81.6 * MINUTE,
    "I-123": 13.223 * HOUR,
    "I-124": 4.176 * DAY,
    "I-125": 59.39 * DAY,
    "I-131": 8.0233 * DAY,
    "Sm-153": 46.28 * HOUR,
    "Tb-149": 4.12 * HOUR,
    "Tb-152": 17.7 * HOUR,
    "Tb-161": 6.95 * DAY,
    "Ho-166": 26.8 * HOUR,
    "Lu-177": 6.645 * DAY,
    "Re-186": 3.718 * DAY,
    "Re-188": 17.0 * HOUR,
    "Tl-201": 3.0421 * DAY,
}
"""Half-lives (Decay Data Evaluation Project, else ENSDF), s: nuclides of PS3.16 CID 4020, and usual ones of CID 18."""

ELEMENTS = {
    "carbon": "C",
    "nitrogen": "N",
    "oxygen": "O",
    "fluorine": "F",
    "sodium": "Na",
    "potassium": "K",
    "scandium": "Sc",
    "titanium": "Ti",
    "manganese": "Mn",
    "iron": "Fe",
    "copper": "Cu",
    "zinc": "Zn",
    "gallium": "Ga",
    "germanium": "Ge",
    "arsenic": "As",
    "selenium": "Se",
    "bromine": "Br",
    "rubidium": "Rb",
    "yttrium": "Y",
    "zirconium": "Zr",
    "niobium": "Nb",
    "technetium": "Tc",
    "indium": "In",
    "iodine": "I",
    "samarium": "Sm",
    "terbium": "Tb",
    "holmium": "Ho",
    "lutetium": "Lu",
    "rhenium": "Re",
    "thallium": "Tl",
}

_WORD = "|".join(sorted(ELEMENTS, key=len, reverse=True))
_SYMBOL = "|".join(sorted(ELEMENTS.values(), key=len, reverse=True))
_NAME = f"(?i:{_WORD})|{_SYMBOL}"
NUCLIDE = re.compile(rf"(?<![A-Za-z0-9])(?:(\d{{1,3}}m?)[ -]?({_NAME})|({_NAME})[ -]?(\d{{1,3}}m?))(?![A-Za-z0-9])")
FDG = re.compile(r"(?i)\bfdg\b|fluoro-?2?-?de(?:s)?oxy-?d?-?glucose")

AGREE = 0.05
"""By what share a stated half-life may differ from its nuclide's: vendors round, and use older tables."""

IDENTIFIES = 0.03
"""How near a half-life must be to one of the table to be believed where no nuclide is named."""


def nuclide_in(text: str) -> str | None:
    """The one nuclide that a name or code meaning speaks of, such as ``F-18`` of ``^18^Fluorine``; else None."""
    plain = re.sub(r"[\[\]^(){},;]", lambda mark: "" if mark[0] == "^" else " ", text)
    found = set()
    for match in NUCLIDE.finditer(plain):
        mass, element = (match[1], match[2]) if match[1] else (match[4], match[3])
        found.add(f"{ELEMENTS.get(element.lower(), element)}-{mass}")
    if not found and FDG.search(plain):
        return "F-18"
    known = found & HALF_LIVES_S.keys()
    return known.pop() if len(known) == 1 else None


def require_nuclide(text: str) -> str:
    """Return the one nuclide that a text speaks of; `IntensityError` where there is none."""
    found = nuclide_in(text)
    if found is None:
        raise IntensityError(
            f"expected a radionuclide such as F-18 (nuclide=..., --nuclide); found {text[:20]!r}. Known are "
            f"{', '.join(HALF_LIVES_S)}."
        )
    return found


def half_life_of(
    stated: Sequence[Stated], texts: Sequence[tuple[str, str]], by_hand: str | None = None
) -> tuple[float, str]:
    """The half-life in s, and what was inferred for it, if anything.

    Parameters
    ----------
    stated
        What says a half-life, the first of which counts.
    texts
        Texts that may name a nuclide, and the element that each is of.
    by_hand
        The nuclide that was given by hand, which goes before all of these.

    Raises
    ------
    IntensityError
        If two statements contradict each other, or nothing says the half-life.
    """
    if by_hand is not None:
        return HALF_LIVES_S[require_nuclide(by_hand)], ""
    nuclides = [(nuclide, name) for text, name in texts if (nuclide := nuclide_in(text))]
    for nuclide, name in nuclides[1:]:
        if nuclide != nuclides[0][0]:
            raise IntensityError(
                f"{nuclides[0][1]} names {nuclides[0][0]}, but {name} names {nuclide}; there is no SUV. Correct one of "
                "them, or give the nuclide (nuclide=..., --nuclide)."
            )
    if nuclides:
        nuclide, name = nuclides[0]
        table = HALF_LIVES_S[nuclide]
        for one in stated:
            if abs(one.value / table - 1) > AGREE:
                raise IntensityError(
                    f"expected {one.name} of {table:.5g} s for {nuclide} ({name}); found {one.value:.5g}"
                    f"{_meant(one.value / table)}. Correct it, or give the nuclide (nuclide=..., --nuclide)."
                )
        if not stated:
            return table, f"half-life of {nuclide}, which {name} names"
        return stated[0].value, ""
    if not stated:
        raise IntensityError(
            "an SUV needs RadionuclideHalfLife or the radionuclide, which the PET's source lacks; give the nuclide "
            "(nuclide=..., --nuclide), or leave the SUV out."
        )
    value = stated[0].value
    nearest = min(HALF_LIVES_S, key=lambda one: abs(value / HALF_LIVES_S[one] - 1))
    if abs(value / HALF_LIVES_S[nearest] - 1) > IDENTIFIES:
        raise IntensityError(
            f"{stated[0].name} of {value:.5g} s is of no radionuclide known, and none is named"
            f"{_meant(value / HALF_LIVES_S['F-18'])}. Correct it, or give the nuclide (nuclide=..., --nuclide)."
        )
    return value, ""


def _meant(ratio: float) -> str:
    """Guess in words at the unit that a half-life was written in, by its ratio to what it should be in s."""
    for seconds, unit in ((MINUTE, "minutes"), (HOUR, "hours"), (DAY, "days")):
        if abs(ratio * seconds - 1) < AGREE:
            return f", perhaps in {unit}"
    return ""
