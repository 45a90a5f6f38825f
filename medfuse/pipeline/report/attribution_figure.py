"""Draw where the fused luma of a few slices comes from, and what neither source shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medfuse.errors import MethodError
from medfuse.intensity import Window
from medfuse.methods.attribution import Attribution, attribute_volume
from medfuse.metrics.excess import MOST_INVENTED
from medfuse.pipeline.figure import rows_of
from medfuse.pipeline.fused_slices import FusedSlices
from medfuse.report.study_figure import Bar, Figure, Panel, draw_study
from medfuse.volume import TRAITS, Grid, SlicePairs, like, meta_of, plain

SLICES = 3
"""So many slices are shared out for a page: all of them cost ten times what the fusion costs."""

UNIT = Window(0.0, 1.0)


@dataclass(frozen=True)
class AttributionShown:
    """A figure of some slices, and what is said of them.

    Parameters
    ----------
    figure
        MRI's part, partner's part, both in colours, and invented structure; None where a method cannot be asked.
    shares
        Of the luma of these slices, in percent: from MRI, partner and neither.
    invented
        Percent of the energy of the fused edges, over the whole study, that no source has.
    why_not
        Why there is no figure.
    """

    figure: Figure | None
    shares: tuple[float, float, float]
    invented: float
    why_not: str = ""


def draw_attribution(slices: FusedSlices) -> AttributionShown:
    """Share out a few slices as they are fused, and find structure in all that no source has."""
    found = slices.invented_structure()
    invented = 100 * found.share
    mri = slices.pair.scaled()[0]
    rows = rows_of(mri, SLICES, plane="native", at=None, view="radiological")
    try:
        parts = _attributed(slices, [row.k for row in rows])
    except MethodError as error:
        return AttributionShown(None, (0.0, 0.0, 0.0), invented, str(error))
    label = TRAITS[meta_of(slices.pair.partner)["modality"]].label
    shares = Bar("share of black to white", UNIT)
    panels = [
        Panel("from the MRI", like(plain(parts.mri).clamp(0, 1), mri), shares),
        Panel(f"from the {label}", like(plain(parts.partner).clamp(0, 1), mri), shares),
        Panel(f"MRI blue, {label} orange", parts.coloured()),
        Panel(
            "in neither source",
            like((plain(found.map) / MOST_INVENTED).clamp(0, 1), mri),
            Bar("edges invented, share a pixel", Window(0.0, MOST_INVENTED)),
        ),
    ]
    sums = [float(plain(part).sum()) for part in (parts.mri, parts.partner, parts.neither)]
    whole = sum(sums) or 1.0
    mri_share, partner_share, neither = (100 * each / whole for each in sums)
    return AttributionShown(draw_study(panels, rows, dark=True), (mri_share, partner_share, neither), invented)


def _attributed(slices: FusedSlices, chosen: list[int]) -> Attribution:
    """The parts of some slices, in volumes on the whole grid that are 0 elsewhere."""
    pair, grid = slices.pair, slices.grid

    def pairs(start: int, stop: int) -> SlicePairs:
        each = [pair.pairs(k, k + 1) for k in chosen[start:stop]]
        return SlicePairs(*(torch.cat(parts) for parts in zip(*each, strict=True)))

    few = Grid((*grid.shape[:2], len(chosen)), grid.affine)
    found = attribute_volume(slices.shown_by, pairs, few, batch_size=slices.batch_size)
    whole = []
    for part in (found.mri, found.partner, found.neither):
        values = torch.zeros((1, *grid.shape))
        values[..., chosen] = plain(part)
        whole.append(like(values, pair.mri))
    return Attribution(*whole)
