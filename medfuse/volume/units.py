"""Read how sources spell a unit of activity: Bq/ml, kBq/mL, MBq/cc, nCi/ml and their like."""

from __future__ import annotations

import re

PREFIXES = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
BECQUERELS = {"bq": 1.0, "ci": 3.7e10}

VOLUMES_ML = {"ml": 1.0, "cc": 1.0, "ccm": 1.0, "cm3": 1.0, "l": 1e3, "dm3": 1e3, "mm3": 1e-3, "ul": 1e-3}
"""Volumes, and how many millilitres they are."""

SPELLINGS = (
    *(("\u00b5", "u"), ("\u03bc", "u"), ("\u00b3", "3"), ("\u207b\u00b9", "-1"), ("^", "")),
    *(("\u00b7", "."), ("\u22c5", ".")),
)
"""One spelling each of micro, cube, inverse and product."""

ACTIVITY = re.compile("(.?)(bq|ci)", re.IGNORECASE)
CONCENTRATION = re.compile(
    "(.?(?:bq|ci))(?:(?:/|per|){volume}|[*.]?{volume}-1)".replace(
        "{volume}", f"({'|'.join(map(re.escape, VOLUMES_ML))})"
    ),
    re.IGNORECASE,
)


def becquerels_in(text: str) -> float | None:
    """How many Bq a unit of activity is; None for anything else.

    A small ``m`` before Bq is milli by SI, and never what was injected: where MBq may be meant, nothing is guessed.
    """
    found = ACTIVITY.fullmatch(_tidy(text))
    if found is None or found[1] not in PREFIXES or (found[1], found[2].lower()) == ("m", "bq"):
        return None
    return PREFIXES[found[1]] * BECQUERELS[found[2].lower()]


def activity_per_ml(text: str) -> float | None:
    """How many Bq/ml a unit of activity concentration is; None for anything else.

    Known are the spellings of UCUM (``Bq/ml``, ``kBq/ml``), BIDS (``Bq/mL``) and DICOM's Units (``BQML``), with SI
    prefixes, and with the volume as ml, cc, cm3 or l.
    """
    found = CONCENTRATION.fullmatch(_tidy(text))
    if found is None:
        return None
    activity = becquerels_in(found[1])
    return None if activity is None else activity / VOLUMES_ML[(found[2] or found[3]).lower()]


def _tidy(text: str) -> str:
    """Without white space, and with the `SPELLINGS`."""
    plain = "".join(text.split())
    for mark, spelling in SPELLINGS:
        plain = plain.replace(mark, spelling)
    return plain
