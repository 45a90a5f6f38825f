"""Compare whom headers name: identifiers and names without what archives add to them or leave out."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from pydicom.dataset import Dataset

from medfuse.dicom.header import said


def same_identifier(one: str, other: str) -> bool:
    """Whether two PatientIDs are equal but for padding."""
    return one.strip(" \0") == other.strip(" \0")


def same_name(one: str, other: str) -> bool:
    """Whether two person names (PS3.5 6.2.1) are written alike but for padding, carets at the end and case.

    A name has up to three component groups (alphabetic, ideographic, phonetic); those that both have are compared.
    """
    pairs = [(here, there) for here, there in zip(_groups(one), _groups(other), strict=True) if here and there]
    return all(here == there for here, there in pairs) if pairs else not any((*_groups(one), *_groups(other)))


def name_of(header: Dataset) -> str:
    """The PatientName, decoded by the header's character set; empty where there is none."""
    return str(header.get("PatientName") or "")


def other_patient(headers: Sequence[Dataset]) -> tuple[str, int] | None:
    """Where headers of one series name two patients: the keyword and the place of the header; None where they do not.

    What some of them leave out contradicts nothing, as long as all of them have the other of identifier and name.
    """
    for keyword, other in (("PatientID", "PatientName"), ("PatientName", "PatientID")):
        stated = [said(header, keyword) for header in headers]
        reference = next((place for place, value in enumerate(stated) if value), 0)
        known = {stated[reference]}
        for place, value in enumerate(stated):
            if value in known:
                continue
            absent_here = not value and said(headers[place], other) and said(headers[reference], other)
            if not absent_here and not _alike(keyword, headers[reference], headers[place]):
                return keyword, max(place, reference)
            known.add(value)
    return None


def name_different_patients(one: Dataset, other: Dataset) -> bool:
    """Whether two headers hold both identifier and name, and differ in both: one alone often does between archives."""
    identifiers = [said(header, "PatientID").strip(" ^\0").casefold() for header in (one, other)]
    names = [name_of(header) for header in (one, other)]
    known = all(identifiers) and all(any(_groups(name)) for name in names)
    return known and identifiers[0] != identifiers[1] and not same_name(*names)


def _alike(keyword: str, one: Dataset, other: Dataset) -> bool:
    if keyword == "PatientID":
        return same_identifier(said(one, keyword), said(other, keyword))
    return same_name(name_of(one), name_of(other))


def _groups(name: str) -> list[str]:
    groups = [*name.replace("\0", "").split("="), "", ""][:3]
    return ["^".join(" ".join(part.split()) for part in _plain(group).split("^")).strip("^") for group in groups]


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
