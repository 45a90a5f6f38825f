"""De-identify headers before anything is written, so that all that is written of a study stays consistent.

Written series take identity from their sources' headers, by allow-list, and refer to their instances. So the headers
of all sources are de-identified first, by one map of UIDs, one shift of dates and one pseudonym, and the writers are
unchanged. The Basic Profile (PS3.15 E.2) is the table of dicom-anonymizer, which is generated from the Standard.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from dicomanonymizer.simpledicomanonymizer import initialize_actions
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from medfuse.dicom.header import quiet
from medfuse.dicom.reading.volume import DicomSource
from medfuse.dicom.writing.identity import is_well_formed
from medfuse.dicom.writing.references import coded
from medfuse.errors import ExportError
from medfuse.volume import Source

TABLE = "dicomfields_2026c"
"""The edition of the Standard whose table is used."""

METHOD = ("PS3.15 Basic Profile 2026c", "dates shifted by whole days")
BASIC_PROFILE = Code("113100", "DCM", "Basic Application Confidentiality Profile")
DATES_MODIFIED = Code("113107", "DCM", "Retain Longitudinal Temporal Information Modified Dates Option")

ALSO_REMOVED = (
    *("PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence"),
    *("BreedRegistrationSequence", "IssuerOfAccessionNumberSequence"),
)
"""What the profile leaves although it may name an owner or a hospital; no viewer needs it."""

Action = Callable[[Dataset, tuple[int, int]], None]

PATIENT_GROUP = 0x0010
"""Dates here are of the person, such as the birth: the option for dates of the examination does not keep them."""

SHIFT_DAYS = range(365, 3650)


@dataclass(frozen=True)
class Deidentifier:
    """One consistent de-identification: what shared a UID, a patient or a date shares the new one.

    All of it is random and stored nowhere: results cannot be traced back, nor joined with those of another one.
    """

    pseudonym: str = field(default_factory=lambda: f"ANON-{secrets.token_hex(4).upper()}")
    shift: timedelta = field(default_factory=lambda: -timedelta(days=secrets.choice(SHIFT_DAYS)))
    uids: dict[str, str] = field(default_factory=dict, repr=False)

    def header(self, original: Dataset) -> Dataset:
        """De-identify a header; the original stays as it is.

        Raises
        ------
        ExportError
            If it says that text is burned into the pixels.
        """
        if original.get("BurnedInAnnotation") == "YES":
            raise ExportError(
                "a source says that text is burned into its pixels (BurnedInAnnotation), which de-identification of "
                "headers does not remove. Choose another series, or clean its pixels first."
            )
        header = deepcopy(original)
        with quiet():
            self._clean(header)
            for keyword in ALSO_REMOVED:
                header.pop(keyword, None)
            header.PatientID, header.PatientName, header.StudyID = self.pseudonym, f"{self.pseudonym}^", "1"
            header.PatientIdentityRemoved = "YES"
            header.DeidentificationMethod = [*METHOD]
            header.DeidentificationMethodCodeSequence = Sequence([*coded(BASIC_PROFILE), *coded(DATES_MODIFIED)])
            header.LongitudinalTemporalInformationModified = "MODIFIED"
        return header

    def source(self, original: Source | None) -> Source | None:
        """De-identify where a volume came from; a file's name, which may be a patient's, goes too."""
        if original is None:
            return None
        if not isinstance(original, DicomSource):
            return replace(original, references=(f"{original.modality} file",))
        headers = tuple(self.header(one) for one in original.headers)
        world = original.frame_of_reference
        return replace(
            original,
            headers=headers,
            frame_of_reference=world and self.uid(world),
            references=(f"urn:oid:{headers[0].SeriesInstanceUID}",),
        )

    def uid(self, original: str) -> str:
        """The UID that stands for another, always the same."""
        return self.uids.setdefault(original, generate_uid(prefix=None))

    def _clean(self, dataset: Dataset) -> None:
        """Apply the profile to a dataset and all that is nested in it."""
        dataset.remove_private_tags()
        for element in list(dataset):
            action = _action(element.tag.group, element.tag.element)
            if element.VR == "SQ" and action is None:
                for item in element.value:
                    self._clean(item)
            elif element.VR == "UI" and action is not None:
                dataset[element.tag].value = _each(element.value, self.uid)
            elif element.VR in ("DA", "DT"):
                of_person = element.tag.group == PATIENT_GROUP
                dataset[element.tag].value = "" if of_person else _each(element.value, self._shifted)
            elif element.VR != "TM" and action is not None:  # times of day identify nobody, and PET needs them
                try:
                    action(dataset, (element.tag.group, element.tag.element))
                except NotImplementedError:  # no stand-in is known for this kind of value
                    del dataset[element.tag]
        for element in list(dataset):
            if element.VR != "UI" and not is_well_formed(element):
                dataset[element.tag].value = None  # free text where a code or a time should stand may say anything

    def _shifted(self, moment: str) -> str:
        """A date, or a date with its time, moved; what is no date is emptied."""
        try:
            day = datetime.strptime(moment[:8], "%Y%m%d") + self.shift
        except (ValueError, OverflowError):
            return ""
        return f"{day:%Y%m%d}" + moment[8:]


@dataclass(frozen=True)
class KeyedDeidentifier(Deidentifier):
    """One de-identification for many studies, made in many processes: all of it follows from a secret key.

    What shared a UID in any of them shares the new one; a person has one pseudonym and one shift of dates in all. Who
    has the key, and an original, can find what became of it: once the key is destroyed, nobody can.
    """

    key: bytes = field(default=b"", repr=False, kw_only=True)

    @classmethod
    def of_person(cls, key: bytes, person: str) -> KeyedDeidentifier:
        """The de-identification of one person's studies; ``person`` tells the cohort's persons apart."""
        drawn = _keyed(key, f"person {person}")
        days = SHIFT_DAYS[drawn % len(SHIFT_DAYS)]
        return cls(f"ANON-{drawn >> 96:08X}", -timedelta(days=days), key=key)

    def uid(self, original: str) -> str:
        """The UID that stands for another: a random number of 128 bits, by the key (PS3.5 B.2)."""
        return f"2.25.{_keyed(self.key, f'uid {original}')}"


def _keyed(key: bytes, text: str) -> int:
    """128 bits that follow from key and text, and tell nothing of either."""
    return int.from_bytes(hmac.digest(key, text.encode(), "sha256")[:16], "big")


@cache
def _table() -> tuple[dict[tuple[int, int], Action], list[tuple[tuple[int, int, int, int], Action]]]:
    """What the profile does to single tags, and to groups that repeat: their tag and its mask."""
    actions: dict[tuple[int, ...], Action] = initialize_actions(TABLE)
    single = {(tag[0], tag[1]): action for tag, action in actions.items() if len(tag) == 2}
    groups = [((tag[0], tag[1], tag[2], tag[3]), action) for tag, action in actions.items() if len(tag) == 4]
    return single, groups


def _action(group: int, element: int) -> Action | None:
    single, groups = _table()
    if (group, element) in single:
        return single[group, element]
    for (tag_group, tag_element, group_mask, element_mask), action in groups:
        if group & group_mask == tag_group & group_mask and element & element_mask == tag_element & element_mask:
            return action
    return None


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """Change each of one or several values; nothing stays nothing."""
    if isinstance(value, MultiValue):
        return [change(str(one)) for one in value]
    return change(str(value)) if value else value
