"""Record how a fused study was made: enough to repeat it, and nothing about the patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from medfuse.intensity.presets import Window
from medfuse.volume.modality import MRI

DISCLAIMER = "Research use only: not a medical device, not for diagnosis or treatment."

NOT_ALIGNED = "NOT ALIGNED"


def software() -> str:
    """Name and version of this program; looked up late, for that takes longer than printing a help text."""
    from medfuse.version import __version__

    return f"medfuse {__version__}"


def marked(name: str, registration: Mapping[str, Any]) -> str:
    """A name that says so where an alignment, as `Registration.to_dict` has it, was forced against the pictures."""
    return f"{name} {NOT_ALIGNED}" if registration.get("verdict") == "not aligned" else name


JOINED = {"oklab": "hue and chroma in OKLab", "chroma": "chroma, Eq. 5", "method": "by the method itself"}
"""How the colours came into the fused slices, for readers of a header."""

LABELS = {"gesenet": "GeSeNet"}
"""What readers call a method, where that is not its name."""

LONGEST_NAME = 64
"""Characters of a method's name, source or version in a header."""


def printable(text: str, longest: int = LONGEST_NAME) -> str:
    """Text as DICOM takes it in a description: what is not printable and backslashes replaced, the start cut off.

    The end is what tells functions of one package apart.
    """
    clean = "".join(letter if letter.isprintable() and letter != "\\" else "?" for letter in text)
    return clean if len(clean) <= longest else f"...{clean[3 - longest :]}"


@dataclass(frozen=True)
class Provenance:
    """The steps between the sources and the fused volume, in the order in which they were taken.

    ``partner_suv`` is what `medfuse.intensity.suv.to_suv` recorded of a PET: normalisation and factor, what was given
    by hand and which elements that overrides, and what was inferred; None where no SUV was asked for.

    ``registration`` is `Registration.to_dict()`; ``method`` is what fused, by ``name``, ``version`` and ``source`` as
    `medfuse.methods.FusionMethod` has them; ``weights`` names its weights and their SHA-256, ``engine`` what ran it,
    each None where the method has none; ``colour_join`` is ``method`` where that made the colours; the windows are in
    each volume's own unit; ``black_air`` says that what shows in neither source was set to black;
    ``different_patients`` that differing identities were accepted; ``mri_straightened`` that the MRI's slices were
    tilted, and interpolated onto an upright grid; the counts of filled slices say how many of a source's slices were
    interpolated because it has gaps; ``mri_cut`` and ``partner_cut`` that a source was accepted whose headers speak of
    more slices; the position errors how far its slices lie at most from where it states them, because it rounds
    positions.
    """

    mri_source: tuple[str, ...]
    partner_source: tuple[str, ...]
    partner_modality: str
    registration: dict[str, Any]
    plane: str
    mri_window: Window
    partner_window: Window
    partner_unit: str
    palette: str | None
    colour_join: str | None
    method: dict[str, str | None]
    weights: dict[str, str] | None = None
    engine: str | None = None
    black_air: bool = False
    different_patients: bool = False
    mri_straightened: bool = False
    mri_filled_slices: int = 0
    partner_filled_slices: int = 0
    partner_suv: dict[str, Any] | None = None
    mri_cut: bool = False
    partner_cut: bool = False
    mri_position_error_mm: float = 0.0
    partner_position_error_mm: float = 0.0
    software: str = field(default_factory=software)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return asdict(self) | {"disclaimer": DISCLAIMER}

    @property
    def alignment(self) -> str:
        """How the partner was aligned, why headers were or were not trusted, and whether the pictures confirm it."""
        verdict, error = self.registration.get("verdict"), self.registration.get("error_mm")
        method = str(self.registration["method"])
        if self.registration.get("headers"):
            method += f" ({self.registration['headers']})"
        if verdict == "aligned":
            return f"{method}, estimated error {error:.1f} mm"
        if verdict == "not aligned":
            return f"{method}, {NOT_ALIGNED}, FORCED"
        reasons = self.registration.get("reasons") or ()
        return ": ".join((f"{method}, not confirmed by the pictures", *reasons[-1:]))

    @property
    def fused_by(self) -> str:
        """The method's name for readers, fit for a header."""
        name = self.method["name"] or "an unnamed method"
        return LABELS.get(name, printable(name))

    def series_name(self) -> str:
        """SeriesDescription of what was fused, at most 64 characters, marked where an alignment was forced."""
        before = f"FUSED MR+{self.partner_modality} "
        left = 64 - len(self.marked(before))
        return self.marked(before + printable(self.fused_by, left))

    def _made_by(self) -> str:
        """The method, with what is known of it: version, source, engine and weights."""
        version, source = self.method["version"], self.method["source"]
        known = [printable(version)] if version and version != self.software else []
        foreign = source and source != self.method["name"] and not source.startswith("medfuse.")
        known += [printable(source, 100)] if source and foreign else []
        known += [self.software]
        known += [f"engine {printable(self.engine, 40)}"] if self.engine else []
        if self.weights:
            known.append(f"weights {printable(self.weights['name'], 40)}, sha256 {self.weights['sha256'][:12]}")
        return f"{self.fused_by} ({', '.join(known)})"

    def marked(self, name: str) -> str:
        """A series description that says so where an alignment was forced against what the pictures say."""
        return marked(name, self.registration)

    @property
    def partner_range(self) -> str:
        """Which values of the partner are shown from black or the first colour to white or the last, with the unit."""
        unit = "" if self.partner_unit == "arbitrary" else f" {self.partner_unit}"
        curve = " by a tone curve" if self.partner_window.bends else ""
        return f"{self.partner_window}{unit}{curve}"

    def sentence(self) -> str:
        """The same for a reader of the DICOM header (DerivationDescription, at most 1024 characters)."""
        colours = f", coloured with the palette {self.palette} ({JOINED[self.colour_join]})" if self.colour_join else ""
        accepted = "Sources that name different patients were accepted. " if self.different_patients else ""
        filled = "".join(
            f"{name} slices missing and interpolated: {count}. "
            for name, count in ((MRI, self.mri_filled_slices), (self.partner_modality, self.partner_filled_slices))
            if count
        )
        by_hand = self.partner_suv["given"] if self.partner_suv else {}
        suv = f"SUV computed with values given by hand ({', '.join(by_hand)}). " if by_hand else ""
        cut = "".join(
            f"{name} is cut: its headers speak of more slices. "
            for name, is_cut in ((MRI, self.mri_cut), (self.partner_modality, self.partner_cut))
            if is_cut
        )
        black_air = "What shows in neither source set to black. " if self.black_air else ""
        straightened = "Tilted MR slices interpolated once onto an upright grid. " if self.mri_straightened else ""
        return (
            f"MR fused slice by slice with {self.partner_modality} by {self._made_by()}. {self.partner_modality} "
            f"alignment: {self.alignment}; resampled once onto the MR grid, values {self.partner_range} "
            f"shown{colours}; MR values {self.mri_window}. {black_air}"
            f"{straightened}{filled}{cut}{accepted}{suv}{DISCLAIMER}"
        )[:1024]
