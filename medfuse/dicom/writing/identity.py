"""Take patient, study and frame of reference over from sources or from the user, by allow-list.

A header is never cloned: what is not named here (private tags, institutions, operators, comments) is not copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime

from monai.data.meta_tensor import MetaTensor
from pydicom import config
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import generate_uid
from pydicom.valuerep import STR_VR, validate_value

from medfuse.dicom.header import quiet
from medfuse.dicom.patient import name_different_patients
from medfuse.dicom.reading.volume import DicomSource
from medfuse.errors import ExportError, did_you_mean
from medfuse.volume import Source, source_of

PATIENT = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence"),
    *("BreedRegistrationSequence", "ResponsiblePerson", "ResponsibleOrganization"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
)
BODY = ("PatientAge", "PatientSize", "PatientWeight")
STUDY = (
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "IssuerOfAccessionNumberSequence"),
    *("ReferringPhysicianName", "StudyDescription", *BODY),
)
PLACE = ("FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition", "BodyPartExamined")
CLOCK = ("TimezoneOffsetFromUTC", "LongitudinalTemporalInformationModified")

IDENTIFYING = ("PatientName", "PatientID", "IssuerOfPatientID", "StudyID", "AccessionNumber")
"""What archives find a patient and a study by, and write in any alphabet."""

UNDECODED = "\N{REPLACEMENT CHARACTER}"
"""What pydicom puts where bytes are none of the stated character set."""

REQUIRED_IF_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("PositionReferenceIndicator",),
)
"""Type 2: present even where nothing is known."""


@dataclass(frozen=True, eq=False)
class Identity:
    """Whose a series is: patient, study and frame of reference. Series written with one identity share all three.

    ``header`` holds their elements, as a source's header does; ``source`` is the series that they come from, if any.
    """

    header: Dataset
    source: Source | None = None

    @classmethod
    def given(cls, values: Mapping[str, str] | None = None) -> Identity:
        """Take DICOM keywords and their values, such as ``{"PatientID": "17"}``; what is not given stays empty.

        Study and frame of reference get fresh UIDs unless they are given.

        Raises
        ------
        ExportError
            If a keyword is not one of patient, study or place, or its value is not as the Standard wants it.
        """
        header = Dataset()
        allowed = (*PATIENT, *STUDY, *PLACE)
        for keyword, value in (values or {}).items():
            if keyword not in allowed or keyword.endswith("Sequence"):
                plain = ", ".join(one for one in allowed if not one.endswith("Sequence"))
                raise ExportError(
                    f"{keyword[:40]!r} is no attribute of patient, study or place; expected {plain}."
                    f"{did_you_mean(keyword, allowed)}"
                )
            try:
                validate_value(dictionary_VR(keyword), value, config.RAISE)
                setattr(header, keyword, value)
            except (ValueError, TypeError):
                # Without the cause, which quotes the value.
                raise ExportError(
                    f"the value given for {keyword} is not as DICOM wants it; check its length and characters."
                ) from None
        return cls(_elements(header, None))

    @classmethod
    def of(cls, origin: IdentityLike | None, partner: Source | None = None) -> Identity:
        """Take the identity of a volume or its source; where that is not DICOM, what the partner knows, placed anew."""
        if isinstance(origin, Identity):
            return origin
        source = source_of(origin) if isinstance(origin, MetaTensor) else origin
        if isinstance(source, DicomSource):
            return cls(source.first, source)
        with quiet():
            return cls(_elements(None, _header_of(partner)), source)

    def elements(self, partner: Source | None = None) -> Dataset:
        """Patient, study and frame of reference of a derived series; weight, size and age may be the partner's.

        These three come from the partner where they are not known otherwise and its headers name the same patient.
        """
        return _elements(self.header, _header_of(partner))


IdentityLike = Identity | Source | MetaTensor
"""What `Identity.of` takes."""


def copy_elements(source: Dataset, target: Dataset, keywords: Sequence[str]) -> None:
    """Copy the named elements that the source holds, with the text that it holds, also where that is ill-formed.

    Archives find a patient and a study again by the text they have, whether or not the Standard allows it: a UID with
    a leading zero, an identifier that is too long. `faults_of` says what is ill-formed. An element of bytes that
    pydicom cannot parse at all is left out.
    """
    for keyword in keywords:
        element = _parsed(source, keyword)
        if element is not None:
            target[keyword] = deepcopy(element)
            if element.VR == "SQ":
                for item in target[keyword].value:
                    item.remove_private_tags()


def _parsed(source: Dataset, keyword: str) -> DataElement | None:
    """An element; None where it is absent or cannot be parsed."""
    if keyword not in source:
        return None
    try:
        return source[keyword]
    except (ValueError, TypeError, ArithmeticError):
        return None


def faults_of(header: Dataset) -> Iterator[tuple[str, str]]:
    """The keyword of each element of patient, study or place that is not as the Standard wants it, and its fault.

    Values are not told. A value that a source stated is kept all the same, for archives know the patient by it.
    """
    for keyword in (*PATIENT, *STUDY, *PLACE, *CLOCK):
        element = _parsed(header, keyword)
        if element is None:
            continue
        texts = _texts(element)
        if len(texts) > 1 and dictionary_VM(keyword) == "1":
            yield keyword, f"{len(texts)} values where one may stand"
        if any(UNDECODED in text for text in texts):
            yield keyword, "characters that its SpecificCharacterSet does not have"
        elif not is_well_formed(element):
            yield keyword, f"a value that the value representation {element.VR} does not allow"


def is_well_formed(element: DataElement) -> bool:
    """Whether an element's values are as the Standard wants them written (PS3.5 6.2); those that are no text always."""
    return all(_is_allowed(element.VR, text) for text in _texts(element))


def _texts(element: DataElement) -> list[str]:
    """The values of an element as they are written; none where they are no text."""
    if element.VR not in STR_VR or element.value is None:
        return []
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    # A name's original string is bytes.
    return [
        str(value) if element.VR == "PN" else getattr(value, "original_string", None) or str(value) for value in values
    ]


def _is_allowed(representation: str, text: str) -> bool:
    """Whether a value representation allows a text."""
    try:
        validate_value(representation, text, config.RAISE)
    except (ValueError, TypeError):
        return False
    return True


def stamp(dataset: Dataset, *keywords: str) -> None:
    """Write when a new object was made into the dates and times of these names.

    That is now; in a study whose dates were shifted it is the study's own: a true date in one of its series would
    reveal by how much.
    """
    now = datetime.now()
    day, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S.%f")
    if dataset.get("LongitudinalTemporalInformationModified") == "MODIFIED":
        day, time = (
            stated if stated and _is_allowed(representation, stated) else instead
            for representation, stated, instead in (
                ("DA", str(dataset.get("StudyDate") or ""), "19000101"),
                ("TM", str(dataset.get("StudyTime") or ""), "000000"),
            )
        )
    for keyword in keywords:
        setattr(dataset, f"{keyword}Date", day)
        setattr(dataset, f"{keyword}Time", time)


def _fill_study(dataset: Dataset) -> None:
    """Begin a study of its own where none is named."""
    if dataset.get("StudyInstanceUID"):
        return
    now = datetime.now()
    dataset.StudyInstanceUID = generate_uid(prefix=None)
    for keyword, value in (("StudyDate", now.strftime("%Y%m%d")), ("StudyTime", now.strftime("%H%M%S"))):
        if not dataset.get(keyword):
            setattr(dataset, keyword, value)
    if not dataset.get("StudyID"):
        dataset.StudyID = "1"


def _elements(base: Dataset | None, partner: Dataset | None) -> Dataset:
    """Patient, study and frame of reference of a series derived from two sources, by their headers.

    The base gives all of it; weight, size and age that it does not know come from the partner, if that is of the same
    patient. Without a base, patient and study are the partner's and the frame of reference is new; without either,
    values are empty and the UIDs are new.
    """
    dataset = Dataset()
    person = base if base is not None else partner
    if person is not None:
        copy_elements(person, dataset, (*PATIENT, *STUDY, *CLOCK))
        _require_decoded(dataset)
    if partner is not None and not (base is not None and name_different_patients(base, partner)):
        # The partner's values need them, as SUV does; one study has one answer in all its series.
        copy_elements(partner, dataset, [keyword for keyword in BODY if not dataset.get(keyword)])
    if base is not None:
        copy_elements(base, dataset, PLACE)
    _fill_study(dataset)
    if not dataset.get("FrameOfReferenceUID"):
        dataset.FrameOfReferenceUID = generate_uid(prefix=None)
    if not dataset.get("BodyPartExamined"):
        # Type 2C: needed unless the body part is known not to be paired.
        dataset.Laterality = None
    for keyword in REQUIRED_IF_EMPTY:
        dataset.setdefault(keyword, None)
    return dataset


def _require_decoded(dataset: Dataset) -> None:
    """Raise `ExportError` where what an archive finds the patient by was lost in decoding."""
    for keyword in IDENTIFYING:
        if UNDECODED in str(dataset.get(keyword) or ""):
            raise ExportError(
                f"{keyword} of the source holds characters that its SpecificCharacterSet does not have; an archive "
                "would file the result under another patient. Correct the SpecificCharacterSet of the source, or name "
                "the patient yourself (--template, --identity)."
            )


def _header_of(source: Source | None) -> Dataset | None:
    return source.first if isinstance(source, DicomSource) else None
