"""Hold the verdict on an alignment: opinion, error, reasons, evidence, and how far tissues disagree."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from medfuse.registration.region import Region
from medfuse.volume.grid import Points

DOUBTFUL_MM = 3.0
"""Error of a head from which an alignment is to be looked at, though nothing speaks against it. Phantoms and a real
pair under their true maps come to 2.7 mm at most (SPECT)."""

FITS_BEST_MM = 2.0
"""How far away two studies of another region may fit best before their alignment is to be looked at: one search comes
back to within 2 mm of itself."""


def above(value: float, limit: float, digits: int = 0) -> str:
    """Say by how many millimetres what exceeds a limit, with more digits where it looked like the limit itself.

    >>> above(8.04, 8.0, 1)
    '8.04 mm (expected under 8 mm)'
    """
    text = f"{value:.{digits}f}"
    if float(text) <= limit and digits < 4:
        return above(value, limit, digits + 1)
    return f"{text} mm (expected under {limit:g} mm)"


@dataclass(frozen=True)
class TissueError:
    """How far one tissue disagrees: typically (the median) and mostly (what 90 % stay within), mm."""

    median_mm: float
    most_mm: float

    @classmethod
    def of(cls, distances: Points, least: int) -> TissueError | None:
        """None where there are fewer than ``least``."""
        if len(distances) < least:
            return None
        return cls(float(np.median(distances)), float(np.quantile(distances, 0.9)))


@dataclass(frozen=True)
class TissueErrors:
    """How far two studies disagree under a map, by tissue; None where the pictures do not say.

    Parameters
    ----------
    bone
        How far across it each 40 mm of a CT's cortical bone must be shifted to lie darkest in an MRI, against what is
        around it; up to 14 mm.
    inside
        How far blocks away from bone and skin fit best from where they are, as in `local_errors`; None where that is
        as far as is looked, which says nothing.
    skin
        Distance between the outlines of the body, where both fields show air beside it; up to 25 mm.
    """

    bone: TissueError | None
    inside: TissueError | None
    skin: TissueError | None

    @property
    def known(self) -> bool:
        """Whether the pictures say anything of any tissue."""
        return any(one is not None for one in (self.bone, self.inside, self.skin))

    def __str__(self) -> str:
        """In words, such as ``bones agree to 2 mm, tissue inside to 4 mm, the skin differs by 9 mm (up to 12 mm)``."""
        told: list[str] = []
        for name, one in (("bones", self.bone), ("tissue inside", self.inside)):
            if one is not None:
                told.append(
                    f"{name}{'' if told else ' agree' if name == 'bones' else ' agrees'} to {one.median_mm:.0f} mm"
                )
        if self.skin is not None:
            told.append(f"the skin differs by {self.skin.median_mm:.0f} mm (up to {self.skin.most_mm:.0f} mm)")
        return ", ".join(told) or "no tissue could be compared by itself"

    def to_dict(self) -> dict[str, dict[str, float] | None]:
        """Everything, as JSON can hold it."""
        return {
            name: None if one is None else {"median_mm": one.median_mm, "most_mm": one.most_mm}
            for name, one in (("bone", self.bone), ("inside", self.inside), ("skin", self.skin))
        }


Opinion = Literal["aligned", "unconfirmed", "not aligned"]


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the pictures say of an alignment.

    How it is reached stands in `medfuse.registration.assess` for a head, and in `medfuse.registration.body.verdict` for
    another region.

    Parameters
    ----------
    opinion
        ``"aligned"``; ``"not aligned"``; or ``"unconfirmed"``: the pictures cannot tell, or do not confirm headers or a
        file that are trusted.
    error_mm
        By how much the map may be off, mm: the larger of the typical distance between where it puts a block of the head
        and where that block fits best (the median over the blocks), and of the distance to where another measure, the
        correlation ratio, is best (``measures_apart_mm``); infinite where too few blocks can be assessed. Away from the
        head, eighths of the body stand for blocks.
    reasons
        Why not; empty if aligned.
    places
        (n, 3) centres of the blocks, RAS+ mm in the fixed world.
    errors_mm
        (n,) the map of errors: that distance for each block, up to 14 mm (as far as is looked).
    evidence
        The figures behind it, by name: ``score`` (normalised mutual information above 1 over the head),
        ``head_overlap`` (share of the fixed head in the moving field), ``misaligned``, ``mirrored`` and ``rival``
        (scores of the pair misaligned on purpose, of its mirror image, and of the best other pose, as shares of the
        score), ``measures_apart_mm`` (mean distance over the head's corners to where the correlation ratio is best),
        ``blocks`` (how many could be assessed). Away from the head: ``shared`` (mutual information, nats), ``fit`` and
        ``fit_at_header`` (what is maximised), ``overlap``, ``misaligned``, ``measures_apart_mm``, ``parts``,
        ``parts_apart_mm``, ``parts_scale`` (by which share of their distances they move apart; with
        ``parts_scale_certainty``, its size over its standard error), ``parts_stretch_mm``, ``outlines_apart_mm``,
        ``outline_voxels``, ``best_nearby_mm`` (how far away the fit is greatest); of a CT beside an MRI
        ``bones_apart_mm``, ``bone_contrast`` and ``bone_contrast_at_header`` where bone shows; after a search
        ``rival``, ``agreeing`` and ``starts``.
    region
        What is shown, and who told it; None where nobody looked.
    tissues
        How far bones, what lies inside, and the skin disagree: away from the head, under a map that is not confirmed
        and under a deformation; None elsewhere.
    """

    opinion: Opinion
    error_mm: float = float("inf")
    reasons: tuple[str, ...] = ()
    places: Points = field(default_factory=lambda: np.zeros((0, 3)), repr=False)
    errors_mm: Points = field(default_factory=lambda: np.zeros(0), repr=False)
    evidence: dict[str, float] = field(default_factory=dict, repr=False)
    region: Region | None = None
    tissues: TissueErrors | None = None

    @property
    def told(self) -> tuple[str, ...]:
        """The reasons, and by how much each tissue disagrees, in words."""
        return self.reasons if self.tissues is None or not self.tissues.known else (*self.reasons, str(self.tissues))

    @property
    def doubtful(self) -> bool:
        """Whether somebody should look at the alignment before the result is used: the flag of reports.

        True unless the pictures confirm it; and where they do, but there is a `doubt`.
        """
        return self.opinion != "aligned" or bool(self.doubt)

    @property
    def doubt(self) -> str:
        """Why an alignment is to be looked at that the pictures confirm, in words; empty where there is no reason.

        A head may be off by more than `DOUBTFUL_MM`; another region fits best more than `FITS_BEST_MM` away.
        """
        if self.region is None or self.region.name == "head":
            return "" if self.error_mm <= DOUBTFUL_MM else f"it may be off by over {DOUBTFUL_MM:g} mm"
        away = self.evidence.get("best_nearby_mm", 0.0)
        return "" if away <= FITS_BEST_MM else f"the two fit best {above(away, FITS_BEST_MM, 1)} away"

    def of(self, region: Region) -> Verdict:
        """The same verdict, of what was found to be shown."""
        return replace(self, region=region)

    def trusted(self) -> Verdict:
        """What the pictures say of headers or a file that the caller trusts: never more than that they cannot tell."""
        return replace(self, opinion="unconfirmed") if self.opinion == "not aligned" else self

    def __str__(self) -> str:
        if self.opinion == "aligned" and self.doubt:
            return f"aligned, but doubtful: {self.doubt}"
        return self.opinion if not self.told else f"{self.opinion}: {'; '.join(self.told)}"

    def to_dict(self) -> dict[str, object]:
        """Everything, as JSON can hold it; an infinite error as None."""
        return {
            "verdict": self.opinion,
            "doubtful": self.doubtful,
            "reasons": list(self.reasons),
            "error_mm": _finite(self.error_mm),
            "error_map": [
                [*place, error] for place, error in zip(self.places.tolist(), self.errors_mm.tolist(), strict=True)
            ],
            "evidence": {name: _finite(figure) for name, figure in self.evidence.items()},
            "region": None if self.region is None else self.region.to_dict(),
            "tissues": None if self.tissues is None else self.tissues.to_dict(),
        }


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None


UNASSESSED = Verdict("unconfirmed", reasons=("a volume is constant or too thin to be compared",))
