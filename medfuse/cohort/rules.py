"""Read the rules by which an MRI and its partners are chosen, and state those that hold where none are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from medfuse.cohort.sequences import SEQUENCES
from medfuse.errors import CohortError, did_you_mean
from medfuse.runtime.yaml_settings import read_yaml
from medfuse.volume.modality import PARTNERS, Modality, modality_named

Wish = Literal["prefer", "avoid", "require", "exclude", "ignore"]
WISHES: tuple[Wish, ...] = get_args(Wish)

MRI_ORDER = ("near", "sequence", "contrast", "resolution", "original", "time")
PARTNER_ORDER = ("corrected", "whole", "original", "reconstruction", "kernel", "resolution", "time")

RECONSTRUCTIONS = ("iterative", "analytic", "unknown")
KERNELS = ("soft", "unknown", "sharp")

MOST_DAYS = 36_525
MOST_MM = 100.0


@dataclass(frozen=True)
class MriRules:
    """Which MRI is taken.

    Parameters
    ----------
    sequences
        Kinds of picture that may be taken, the best first; see `medfuse.cohort.sequences.SEQUENCES`.
    contrast
        Whether one with contrast agent is preferred, avoided, required, excluded, or neither.
    original
        Whether original slices are preferred to derived ones (ImageType, PS3.3 C.7.6.1.1.2), required, or neither.
    resolution_mm
        Largest edge of a voxel: bounds between classes, within which the resolution does not count.
    least_slices
        One with fewer slices is no volume to be fused.
    only, never
        Patterns with ``*`` and ``?`` that a series description or file name must match, or must not; case is ignored.
    order
        What is compared first.
    """

    sequences: tuple[str, ...] = ("T1", "FLAIR", "T2", "PD", "T2star", "unknown")
    contrast: Wish = "prefer"
    original: Wish = "prefer"
    resolution_mm: tuple[float, ...] = (1.5, 3.5)
    least_slices: int = 3
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    order: tuple[str, ...] = MRI_ORDER


@dataclass(frozen=True)
class PartnerRules:
    """Which CT, PET and SPECT are taken, one of each modality and tracer in each study or session.

    Parameters
    ----------
    modalities
        Those that are fused at all.
    corrected
        Whether PET and SPECT that are corrected for attenuation are preferred, required, or neither.
    whole
        Share of the longest extent along the slices, of the series compared, from which one is whole.
    original
        As of `MriRules`.
    reconstructions
        Of PET and SPECT, the best first: iterative, analytic, unknown.
    kernels
        Of CT, the best first: soft, unknown, sharp.
    resolution_mm, least_slices, only, never, order
        As of `MriRules`.
    """

    modalities: tuple[Modality, ...] = PARTNERS
    corrected: Wish = "prefer"
    whole: float = 0.8
    original: Wish = "prefer"
    reconstructions: tuple[str, ...] = RECONSTRUCTIONS
    kernels: tuple[str, ...] = KERNELS
    resolution_mm: tuple[float, ...] = (1.5, 3.5)
    least_slices: int = 3
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    order: tuple[str, ...] = PARTNER_ORDER


@dataclass(frozen=True)
class Rules:
    """What is fused with what.

    Parameters
    ----------
    days
        An MRI of another study or session may be this many days from its partner.
    near_days
        An MRI of the partner's own study, or at most this many days from it, comes before any other.
    mri, partner
        Which of each.
    """

    days: int = 90
    near_days: int = 14
    mri: MriRules = field(default_factory=MriRules)
    partner: PartnerRules = field(default_factory=PartnerRules)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Rules:
        """Read rules from a YAML file; what it leaves out is as by default.

        Raises
        ------
        CohortError
            If the file cannot be read, or names a rule or a value that there is not.
        """
        path = Path(path)
        return cls.from_mapping(read_yaml(path, CohortError, "days: 90"))

    @classmethod
    def from_mapping(cls, values: Mapping[Any, Any]) -> Rules:
        """Make rules of what a YAML file holds; raises as `from_yaml`."""
        given = _known(cls, values, "")
        made: dict[str, Any] = {
            name: _whole_number(value, name, 0, MOST_DAYS)
            for name, value in given.items()
            if name in ("days", "near_days")
        }
        for name, kind in (("mri", MriRules), ("partner", PartnerRules)):
            inside = given.get(name)
            if inside is not None and not isinstance(inside, dict):
                raise CohortError(f"the rules of {name} must be a mapping, such as '{name}: {{least_slices: 5}}'.")
            checked = _known(kind, inside or {}, f"{name}.")
            made[name] = kind(**{key: _checked(kind, key, value, f"{name}.{key}") for key, value in checked.items()})
        return cls(**made)


def _known(kind: type, values: Mapping[Any, Any], prefix: str) -> Mapping[str, Any]:
    names = [one.name for one in fields(kind)]
    for name in values:
        if name not in names:
            close = did_you_mean(str(name), names)
            raise CohortError(f"there is no rule {prefix}{str(name)[:60]!r}; known are {', '.join(names)}.{close}")
    return values


def _checked(kind: type, key: str, value: Any, name: str) -> Any:
    default = next(one.default for one in fields(kind) if one.name == key)
    check = CHECKS.get(key) or _words_of(default)
    return check(value, name)


def _words_of(known: Any) -> Callable[[Any, str], tuple[str, ...]]:
    """Check a list of words, each of which is one of those that a rule has by default."""

    def check(value: Any, name: str) -> tuple[str, ...]:
        words = tuple(value) if isinstance(value, list) else (value,)
        if not words or any(word not in known for word in words) or len(set(words)) < len(words):
            close = next((did_you_mean(str(one), known) for one in words if one not in known), "")
            raise CohortError(f"the rule {name} must list some of {', '.join(known)}, each once.{close}")
        return words

    return check


def _whole_number(value: Any, name: str, lowest: int, highest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise CohortError(f"the rule {name} must be a whole number from {lowest} to {highest}.")
    return value


def _wish(value: Any, name: str) -> Wish:
    if value not in WISHES:
        raise CohortError(f"the rule {name} must be one of {', '.join(WISHES)}.{did_you_mean(str(value), WISHES)}")
    return value  # type: ignore[no-any-return]


def _share(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise CohortError(f"the rule {name} must be a number from 0 to 1.")
    return float(value)


def _bounds(value: Any, name: str) -> tuple[float, ...]:
    bounds = value if isinstance(value, list) else [value]
    numbers = [one for one in bounds if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) < len(bounds) or sorted(set(numbers)) != numbers or not all(0 < one <= MOST_MM for one in numbers):
        raise CohortError(f"the rule {name} must list rising lengths in mm, up to {MOST_MM:g}, such as [1.5, 3.5].")
    return tuple(float(one) for one in numbers)


def _patterns(value: Any, name: str) -> tuple[str, ...]:
    patterns = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) and 0 < len(one) <= 200 for one in patterns) or len(patterns) > 100:
        raise CohortError(f"the rule {name} must list patterns for series descriptions, such as ['*MPRAGE*'].")
    return tuple(patterns)


def _modalities(value: Any, name: str) -> tuple[Modality, ...]:
    codes: list[Modality] = []
    for one in value if isinstance(value, list) else [value]:
        try:
            codes.append(modality_named(one))
        except ValueError as error:  # StudyError is one
            raise CohortError(f"the rule {name} must list some of CT, PET and SPECT.") from error
    if not codes or any(code not in PARTNERS for code in codes):
        raise CohortError(f"the rule {name} must list some of CT, PET and SPECT.")
    return tuple(dict.fromkeys(codes))


CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "sequences": _words_of(SEQUENCES),
    "contrast": _wish,
    "original": _wish,
    "corrected": _wish,
    "resolution_mm": _bounds,
    "whole": _share,
    "least_slices": lambda value, name: _whole_number(value, name, 1, 10_000),
    "only": _patterns,
    "never": _patterns,
    "modalities": _modalities,
}
"""How the value of each rule is checked; the others are lists of the words that they have by default."""
