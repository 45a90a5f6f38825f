"""Write what methods show of the same pairs as pictures side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from medfuse.methods.method import FusionMethod
from medfuse.metrics.excess import MOST_INVENTED, invented_map
from medfuse.metrics.pictures import eight_bit
from medfuse.metrics.reading import in_luma
from medfuse.pipeline.scored_pairs import PairStack, ScoredPairs, chosen_evenly
from medfuse.report.side_by_side import side_by_side
from medfuse.runtime.output.atomic_output import atomic_folder
from medfuse.runtime.torch_settings import default_settings

MOST_SLICES = 12
"""Slices of a volume that are drawn, evenly spaced over those that show something; of pictures, all are."""


@default_settings()
def write_pictures(
    pairs: ScoredPairs, methods: Sequence[FusionMethod], folder: str | Path, *, overwrite: bool = False
) -> None:
    """Write a PNG for each slice or picture: MRI, partner and what every method makes of them, at full size.

    Beside each method's picture is the map of its invented structure: edges of its luma that neither source has, white
    from `medfuse.metrics.excess.MOST_INVENTED` on.

    Parameters
    ----------
    pairs, methods
        As for `medfuse.pipeline.compare_methods.compare_methods`.
    folder
        Folder to appear, with ``slice-0042.png`` for slice 42 of the MRI, or ``picture-0001.png`` for the first picture
        in the order of the names.
    overwrite
        Whether a folder of such pictures already there is replaced.

    Raises
    ------
    ExportError
        If the folder is taken or cannot be written.
    """
    is_volume = pairs.kind == "volume"
    stacks = list(chosen_evenly(pairs.stacks, MOST_SLICES)) if is_volume else pairs.stacks
    with atomic_folder(Path(folder), overwrite) as place:
        place.mkdir()
        for stack in stacks:
            shown: list[tuple[str, Tensor]] = []
            for method in methods:
                fused = stack.show(method)
                shown += [(method.name, fused), ("edges in neither source", _invented(stack, fused))]
            mri, partner = stack.mri.mul(255).round(), stack.partner_shown()
            for row, number in enumerate(stack.numbers):
                panels = [("MRI", mri[row]), ("partner", partner[row]), *((name, each[row]) for name, each in shown)]
                name = f"slice-{number:04d}.png" if is_volume else f"picture-{number + 1:04d}.png"
                (place / name).write_bytes(side_by_side(panels))


def _invented(stack: PairStack, fused: Tensor) -> Tensor:
    """(N, 1, H, W) on the 8-bit scale: edges of fused pictures that neither source has."""
    sides = [eight_bit(side.cpu()) for side in (in_luma(fused), stack.mri, stack.luma)]
    return (invented_map(*sides) / MOST_INVENTED).clamp(0, 1).mul(255).round()
