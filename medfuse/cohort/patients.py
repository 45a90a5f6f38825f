"""Tell by headers which series are of one patient, and name patients by what says nothing of them."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from medfuse.dicom.header import Instance, said
from medfuse.dicom.patient import name_of, same_name

PLACEHOLDER = re.compile(
    r"(?:anon\w*|unknown|unnamed|none|null|n/?a|no.?(?:name|id)|de-?ident\w*|pseudo\w*|removed|hidden|patient|subject"
    r"|test|phantom|x+|0+|-+|\?+|\.+)"
)
"""What programs write in the place of an identifier or name: it distinguishes nobody."""

LABEL_CHARACTERS = 8


@dataclass(frozen=True)
class Identity:
    """Whom a header names; empty texts where it does not say, or says what distinguishes nobody."""

    identifier: str = field(repr=False)
    name: str = field(repr=False)
    birth: str = field(repr=False)
    sex: str = field(repr=False)
    study: str = field(repr=False)

    @classmethod
    def of(cls, instance: Instance) -> Identity:
        """Read it of a file's header, whose damaged elements say nothing."""
        header = instance.header
        values = {}
        for keyword in ("PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID"):
            try:
                values[keyword] = said(header, keyword)
            except Exception:  # pydicom raises many kinds on damaged values
                values[keyword] = ""
        try:
            name = name_of(header)
        except Exception:  # as above
            name = ""
        sex = values["PatientSex"].strip().upper()
        return cls(
            _known(values["PatientID"]),
            name if _known(name) else "",
            _known(values["PatientBirthDate"]),
            sex if sex in ("M", "F") else "",
            values["StudyInstanceUID"],
        )

    @property
    def person(self) -> tuple[str, str, str]:
        return self.name, self.birth, self.sex

    def contradicts(self, other: Identity) -> bool:
        """Whether two headers of one identifier cannot be of one person: what one leaves out contradicts nothing."""
        if self.birth and other.birth and self.birth != other.birth:
            return True
        if self.sex and other.sex and self.sex != other.sex:
            return True
        # People change their names, and archives their spelling; with one birth date it is the same person.
        return (
            bool(self.name and other.name) and not (self.birth and other.birth) and not same_name(self.name, other.name)
        )


def group_patients(identities: Sequence[Identity], one_patient: bool = False) -> list[int]:
    """Number the patient of each series; different patients never have one number.

    Series are of one patient if their identifiers are equal and nothing else contradicts that: the dates of birth, the
    sexes, or names where no date of birth confirms them. Those without an identifier need equal names and birth dates,
    and those without either are of one patient only within a study.

    Parameters
    ----------
    identities
        One for each series.
    one_patient
        As of `medfuse.cohort.dicom_tree.read_tree`.
    """
    keys: list[Hashable] = [_key(identity, place) for place, identity in enumerate(identities)]
    persons: dict[Hashable, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        persons[key].append(place)
    number_of: dict[Hashable, int] = {}
    numbers = [0] * len(identities)
    for key, places in persons.items():
        for place, part in zip(places, _parts([identities[one] for one in places]), strict=True):
            numbers[place] = number_of.setdefault((key, part), len(number_of))
    if one_patient:
        named = {numbers[place] for place, one in enumerate(identities) if one.identifier or one.name}
        if len(named) <= 1:
            return [0] * len(identities)
    return numbers


def label_of(studies: Sequence[str]) -> str:
    """A label for a patient: a digest of the first study's UID, which leads back to nobody who has not got the study.

    Numbers would change for all patients whenever one is added, and a digest of an identifier can be undone by trying
    all identifiers.

    >>> label_of(["1.2.3", "1.2.4"]) == label_of(["1.2.3"])
    True
    """
    first = next(iter(studies), "")
    digest = hashlib.blake2b(first.encode("utf-8", "replace"), person=b"medfuse cohort").digest()
    return base64.b32encode(digest).decode().lower()[:LABEL_CHARACTERS]


def _known(text: str) -> str:
    """A text in one spelling; empty where it is a placeholder."""
    plain = " ".join(unicodedata.normalize("NFKC", text).replace("^", " ").replace("\0", " ").casefold().split())
    return "" if PLACEHOLDER.fullmatch(plain) else plain


def _key(identity: Identity, place: int) -> Hashable:
    if identity.identifier:
        return "identifier", identity.identifier
    if identity.name and identity.birth:
        return "name", _known(identity.name), identity.birth
    return ("study", identity.study) if identity.study else ("series", place)


def _parts(identities: Sequence[Identity]) -> list[int]:
    """Number the persons among headers of one identifier.

    Where two contradict each other, a third that contradicts neither could be either's: then equals alone go together.
    """
    distinct = list({one.person: one for one in identities}.values())
    clash = any(one.contradicts(other) for place, one in enumerate(distinct) for other in distinct[place + 1 :])
    if not clash:
        return [0] * len(identities)
    order = {one.person: number for number, one in enumerate(distinct)}
    return [order[one.person] for one in identities]
