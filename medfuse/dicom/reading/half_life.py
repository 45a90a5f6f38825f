"""Find the half-life of what was injected: as a PET's header says it, or by the nuclide that it names."""

from __future__ import annotations

from functools import cache

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from medfuse.dicom.header import code_value, items, said
from medfuse.dicom.reading.pet_elements import GE, number, private_number, private_text
from medfuse.intensity.nuclides import half_life_of
from medfuse.volume import Stated, SuvInputs


def half_life(header: Dataset, drug: Dataset, given: SuvInputs) -> tuple[float, str]:
    """The half-life in s, and what was inferred for it, if anything.

    Raises
    ------
    IntensityError
        If the header contradicts itself or says neither half-life nor nuclide, and no nuclide is given.
    """
    # Some writers put 0 where they do not know it; less than 0 is refused with the nuclide's.
    stated = [Stated(value, "RadionuclideHalfLife")] if (value := number(drug, "RadionuclideHalfLife")) else []
    private = private_number(header, 0x0009, GE, 0x3F)
    if private is not None:
        stated.append(Stated(private, "GE's private half-life (0009,xx3F)"))
    return half_life_of(stated, _names(header, drug), given.nuclide)


def _names(header: Dataset, drug: Dataset) -> list[tuple[str, str]]:
    """What the header calls the nuclide or its tracer, and where."""
    texts: list[tuple[str, str]] = []
    for code in items(drug, "RadionuclideCodeSequence"):
        meaning = _meaning(code_value(code), said(code, "CodingSchemeDesignator"))
        texts.append((meaning, "RadionuclideCodeSequence"))
        texts.append((said(code, "CodeMeaning"), "CodeMeaning in RadionuclideCodeSequence"))
    for code in items(drug, "RadiopharmaceuticalCodeSequence"):
        texts.append((said(code, "CodeMeaning"), "RadiopharmaceuticalCodeSequence"))
    texts.append((said(drug, "Radiopharmaceutical"), "Radiopharmaceutical"))
    texts.append((private_text(header, 0x0009, GE, 0x3E), "GE's private nuclide (0009,xx3E)"))
    return texts


@cache
def _meaning(value: str, scheme: str) -> str:
    """What a code of a radionuclide means in CID 4020 or CID 18, in SNOMED's older identifiers, too."""
    if not value or not scheme:
        return ""
    asked = Code(value, "SRT" if scheme in ("SNM3", "99SDM") else scheme, "")
    for group in (codes.cid4020, codes.cid18):
        for keyword in group.dir():
            if getattr(group, keyword) == asked:
                return str(getattr(group, keyword).meaning)
    return ""
