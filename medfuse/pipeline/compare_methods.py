"""Run fusion methods on the same pairs, and score what each shows: scores, reading measures and inserted lesions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from medfuse.dicom.palettes import palette_table
from medfuse.methods.method import FusionMethod
from medfuse.metrics import CORE, eight_bit, flicker
from medfuse.metrics.lesions import CLASSES, Observed
from medfuse.metrics.reading import Shown, in_luma, lesions_by_class, read_groups
from medfuse.pipeline.scored_pairs import PairStack, ScoredPairs, chosen_evenly
from medfuse.pipeline.scoring import Scores, in_batches, score_batches
from medfuse.runtime.progress import Progress
from medfuse.runtime.torch_settings import default_settings

FEWEST, MOST = 12, 48
"""Lesions of a kind, one a slice: few slices are taken several times, so that each size and contrast comes."""


@dataclass(frozen=True, eq=False)
class MethodScores:
    """What one method shows of the pairs.

    Parameters
    ----------
    method
        What fused.
    scores
        Its scores and reading measures; values in the order of the slices or pictures.
    lesions
        What is left of inserted lesions, by the names of `medfuse.metrics.lesions.CLASSES`; empty where not asked for.
    """

    method: FusionMethod
    scores: Scores
    lesions: dict[str, Observed]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found = self.scores.to_dict()
        weights = dict(self.method.weights) if self.method.weights else None
        made = self.method.to_dict() | {"weights": weights, "engine": self.method.engine}
        return {
            "method": made,
            **{name: found[name] for name in ("scores", "flicker", "reading")},
            "lesions": {name: each.to_dict() for name, each in self.lesions.items()},
        }


@default_settings()
def compare_methods(
    pairs: ScoredPairs,
    methods: Sequence[FusionMethod],
    names: Sequence[str] = CORE,
    *,
    lesions: bool = True,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[MethodScores]:
    """Run each method on all pairs, and score what a reader would see.

    Parameters
    ----------
    pairs
        See `medfuse.pipeline.scored_pairs.pairs_of_paths`.
    methods
        See `medfuse.methods.load_method`.
    names
        Keys of `medfuse.metrics.SCORES`.
    lesions
        Whether lesions are inserted, too, which fuses each slice looked at five times more.
    device
        ``auto``, ``cpu`` or ``cuda``: where scores are computed.
    progress
        Called with the step ``score``.

    Raises
    ------
    MethodError
        If a method fails, or gives no fused pictures.
    GeometryError
        If pictures are too small for a score.
    """
    found = []
    for number, method in enumerate(methods):
        scores = _scores(pairs, method, names, device)
        seen = _lesions(pairs.stacks, method) if lesions else {}
        found.append(MethodScores(method, scores, seen))
        if progress:
            progress("score", (number + 1) / len(methods))
    return found


def _scores(pairs: ScoredPairs, method: FusionMethod, names: Sequence[str], device: str) -> Scores:
    shown = [stack.show(method) for stack in pairs.stacks]
    groups = [
        Shown(fused, stack.mri, stack.uptake, stack.luma) for fused, stack in zip(shown, pairs.stacks, strict=True)
    ]
    values = score_batches(_batches(groups), sum(map(len, pairs.stacks)), names, device, None)
    order = torch.tensor([number for stack in pairs.stacks for number in stack.numbers]).argsort()
    palette = pairs.stacks[0].palette
    legend = palette_table(palette) if palette else None
    return Scores(
        pairs.kind,
        {name: each[order] for name, each in values.items()},
        pairs.left_out,
        _flicker(groups[0]) if pairs.kind == "volume" and _neighbours(pairs.stacks[0].numbers) else None,
        read_groups(groups, legend),
    )


def _batches(groups: Iterable[Shown]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for group in groups:
        yield from in_batches(in_luma(group.fused), group.mri, group.partner)


def _neighbours(numbers: Sequence[int]) -> bool:
    return len(numbers) > 2 and all(other - one == 1 for one, other in pairwise(numbers))


def _flicker(group: Shown) -> float:
    return float(flicker(*map(eight_bit, (in_luma(group.fused), group.mri, group.partner))))


def _lesions(stacks: list[PairStack], method: FusionMethod) -> dict[str, Observed]:
    chosen = list(chosen_evenly(stacks, MOST))
    rounds = -(-FEWEST // sum(map(len, chosen)))
    found, first = [], 0
    for stack in chosen:
        repeated = stack.taken(list(range(len(stack))) * rounds)

        def show(mri: Tensor, uptake: Tensor, stack: PairStack = repeated) -> Tensor:
            return stack.changed(mri, uptake).show(method)

        palette = palette_table(stack.palette) if stack.palette else None
        found.append(
            lesions_by_class(
                show, repeated.mri, repeated.uptake, palette, pixel_mm=stack.pixel_mm, seed=first, first=first
            )
        )
        first += len(repeated)
    return {
        name: Observed(*(torch.cat(sides) for sides in zip(*(each[name] for each in found), strict=True)))
        for name, _, _ in CLASSES
    }
