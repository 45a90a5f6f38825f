"""Tell the kind of an MRI, the kernel of a CT and the reconstruction of a PET by what headers and file names say."""

from __future__ import annotations

import re
from collections.abc import Mapping

STRUCTURAL = ("T1", "FLAIR", "T2", "PD", "T2star")
OTHERS = ("diffusion", "perfusion", "functional", "angiography", "map", "attenuation-map", "localizer")
SEQUENCES = (*STRUCTURAL, "unknown", *OTHERS)
"""Kinds of MRI that rules distinguish."""

WORDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(rf"(?<![a-z0-9])(?:{words})", re.IGNORECASE))
    for kind, words in (
        ("localizer", r"loc(?:ali[sz]er)?(?![a-z])|(?:aah?.?)?scout|survey|3-?plane|three.?plane"),
        ("attenuation-map", r"mrac|u-?map|µ-?map|mu-?map|attenuation.?map"),
        ("diffusion", r"dwi|dti|diff|adc(?![a-z])|trace|tensor|isotropic|ep2d.diff|fa(?![a-z])|b\d{3,4}(?![a-z0-9])"),
        ("perfusion", r"perf|dsc(?![a-z])|asl(?![a-z])|pcasl|cbf|cbv|mtt(?![a-z])|ttp(?![a-z])|tmax|dce(?![a-z])"),
        ("functional", r"bold|f-?mri|rest(?:ing)?(?![a-z])|task-"),
        ("angiography", r"tof(?![a-z])|angio|mra(?![a-z])|mrv(?![a-z])|mip(?![a-z])|pca(?![a-z])"),
        (
            "map",
            r"field.?map|b[01].?map|gre.field|t[12]\*?.?map|r2\*?.?map|phase.?(?:map|image|contrast)|fat.?fraction|quant",
        ),
        ("FLAIR", r"flair|tirm|dark.?fluid|t2.?flair"),
        ("T2star", r"t2\*|t2.?star|swi(?![a-z])|swan|venobold|hemo|suscept"),
        ("T1", r"(?:3d|se|tse|fse|gre|ax|sag|cor|tra)?.?t1|mprage|mp2rage|(?:f|ir-?f?)?spgr|bravo|vibe|lava|thrive"),
        ("T2", r"(?:3d|se|tse|fse|ax|sag|cor|tra)?.?t2|haste|ssfse|ciss|fiesta"),
        ("PD", r"pd(?:w|fs)?(?![a-z])|proton"),
    )
)
"""Words of series descriptions and file names; the first kind with one of its words counts."""

STATED = {
    "T1": "T1",
    "T2": "T2",
    "T2_STAR": "T2star",
    "PROTON_DENSITY": "PD",
    "FLUID_ATTENUATED": "FLAIR",
    "STIR": "T2",
    "DIFFUSION": "diffusion",
    "PERFUSION": "perfusion",
    "TOF": "angiography",
    "FLOW_ENCODED": "angiography",
}
"""Values of AcquisitionContrast (PS3.3 C.8.13.3.1.2)."""

WITH_AGENT = re.compile(
    r"(?<![a-z0-9])(?:post(?!er)|gd(?![a-z])|gad[a-z]*|km(?![a-z])|ce(?![a-z])|c\+|contrast)|\+\s?(?:c|gd|km)(?![a-z])"
    r"|ce-?t1|t1.?(?:c|ce|gd)(?![a-z])",
    re.IGNORECASE,
)
WITHOUT_AGENT = re.compile(
    r"(?<![a-z0-9])(?:pre(?![a-z])|w/?o(?![a-z])|without|nativ|non.?contrast|no.?contrast|pre.?contrast)", re.IGNORECASE
)
NO_AGENT = {"", "no", "none", "n", "nein", "non", "without", "0"}

UNCORRECTED = re.compile(r"(?<![a-z])(?:nac|non?.?ac|no.?atten|uncorr|non.?corr|nicht.?korr)", re.IGNORECASE)
ITERATIVE = re.compile(r"osem|iter|vpfx|vue|q\.?clear|bsrem|psf|tof|truex|ramla|mlem|blob", re.IGNORECASE)
ANALYTIC = re.compile(r"fbp|filtered|back.?proj|3drp|forer?|analytic", re.IGNORECASE)

SHARP = re.compile(r"bone|lung|sharp|edge|detail|[bhju]r?[5-9]\d|fc(?:3|5|8)\d|yb|yc|ye", re.IGNORECASE)
SOFT = re.compile(r"stand|soft|smooth|brain|[bhju]r?[1-4]\d|fc[0-2]\d|(?<![a-z])[abc](?![a-z])|ub|uc", re.IGNORECASE)

TRACERS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (label, re.compile(words, re.IGNORECASE))
    for label, words in (
        ("FDG", r"fdg|fluorode?oxyglucose|fluorodeoxy|C-B1031"),
        ("FET", r"(?<![a-z])fet(?![a-z])|fluoroethyl.?tyrosine"),
        ("FLT", r"(?<![a-z])flt(?![a-z])|fluorothymidine"),
        ("FMISO", r"f?miso(?![a-z])|misonidazole"),
        ("FDOPA", r"f?-?dopa(?![a-z])"),
        ("PSMA", r"psma"),
        ("DOTATATE", r"dotatate|netspot"),
        ("DOTATOC", r"dotatoc"),
        ("DOTANOC", r"dotanoc"),
        ("FAPI", r"fapi"),
        ("NAF", r"sodium.?fluoride|(?<![a-z])na-?f(?![a-z])"),
        ("CHOLINE", r"choline"),
        ("MET", r"methionine|(?<![a-z])met(?![a-z])"),
        ("PIB", r"(?<![a-z])pib(?![a-z])|pittsburgh"),
        ("FLORBETAPIR", r"florbetapir|av-?45|amyvid"),
        ("FLORBETABEN", r"florbetaben|neuraceq"),
        ("FLUTEMETAMOL", r"flutemetamol|vizamyl"),
        ("FLORTAUCIPIR", r"flortaucipir|av-?1451|tauvid"),
        ("HMPAO", r"hmpao|exametazime|ceretec"),
        ("ECD", r"(?<![a-z])ecd(?![a-z])|bicisate"),
        ("IOFLUPANE", r"ioflupane|datscan|fp-?cit"),
        ("WATER", r"(?<![a-z])h2o|water|oxygen.?15"),
    )
)
"""Tracers by what headers call them; any other text is not repeated, for it is free."""


def sequence_of(text: str, header: Mapping[str, str]) -> str:
    """The kind of an MRI: one of `SEQUENCES`.

    Parameters
    ----------
    text
        Series description, protocol and sequence name, or a file's entities and suffix.
    header
        What the header says under ``AcquisitionContrast``, ``ScanningSequence``, ``SequenceVariant``,
        ``RepetitionTime``, ``EchoTime``, ``InversionTime``, ``MRAcquisitionType`` and ``DiffusionBValue``; some may be
        absent. Times are ms.
    """
    stated = STATED.get(header.get("AcquisitionContrast", ""))
    if stated:
        return stated
    plain = text.replace("_", " ")
    named = next((kind for kind, words in WORDS if words.search(plain)), "")
    return named or _by_times(header)


def _by_times(header: Mapping[str, str]) -> str:
    """The kind by what times it was measured with: of a spin echo, and of gradient echoes that are T1-weighted."""
    if _number(header, "DiffusionBValue"):
        return "diffusion"
    sequence = header.get("ScanningSequence", "")
    repetition, echo, inversion = (_number(header, name) for name in ("RepetitionTime", "EchoTime", "InversionTime"))
    if not repetition or echo is None:
        return "unknown"
    if "EP" in sequence:
        return "functional" if "GR" in sequence else "diffusion"
    if "GR" in sequence and "SE" not in sequence:
        prepared = "IR" in sequence or "MP" in header.get("SequenceVariant", "") or (inversion or 0) > 300
        if echo < 10 and (prepared or repetition < 50):
            return "T1"
        return "T2star" if echo > 15 else "unknown"
    if repetition > 4000 and (inversion or 0) > 1500:
        return "FLAIR"
    if repetition < 1200 and echo < 40:
        return "T1"
    if repetition > 1800:
        return "T2" if echo > 60 else "PD" if echo < 40 else "unknown"
    return "unknown"


def contrast_of(text: str, agent: str | None) -> bool | None:
    """Whether a contrast agent was given; None where nothing says so. ``agent`` is None where the element is absent."""
    if agent is not None and agent.strip().casefold() not in NO_AGENT:
        return True
    plain = text.replace("_", " ")
    if WITHOUT_AGENT.search(plain):
        return False
    if WITH_AGENT.search(plain):
        return True
    return False if agent is not None and agent.strip() else None


def reconstruction_of(text: str) -> str:
    """How a PET or SPECT was reconstructed: iterative, analytic or unknown."""
    return "iterative" if ITERATIVE.search(text) else "analytic" if ANALYTIC.search(text) else "unknown"


def kernel_of(text: str) -> str:
    """The kind of a CT's convolution kernel: soft, sharp or unknown."""
    return "sharp" if SHARP.search(text) else "soft" if SOFT.search(text) else "unknown"


def corrected_of(text: str, stated: bool | None) -> bool | None:
    """Whether values are corrected for attenuation: as the header states, else as the description says."""
    if stated is None and UNCORRECTED.search(text.replace("_", " ")):
        return False
    return stated


def tracer_of(text: str) -> str:
    """The label of a tracer, where the text names one that is known."""
    return next((label for label, words in TRACERS if words.search(text)), "")


def _number(header: Mapping[str, str], name: str) -> float | None:
    try:
        return float(header.get(name, "").split("\\")[0])
    except ValueError:
        return None
