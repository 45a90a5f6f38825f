"""Measure how far a fused slice is from a good one, by differentiable terms.

Li et al. (GeSeNet, doi:10.1109/TNNLS.2023.3293274), Eq. 9–17. Images are (N, 1, H, W) in [0, 1]; every term a scalar.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.losses.ssim_loss import SSIMLoss
from torch import Tensor, nn
from torch.nn import functional

from medfuse.errors import TrainingError
from medfuse.gesenet.training.config import LossWeights, TrainingConfig

DETAIL = 0.04
"""Ten grey levels of 256 a pixel: above noise and shading, below the faintest gyrus of a T1 image."""

DARKER_BY = 0.45
"""How much below ``headroom_from`` the local mean of the darker source may be where the headroom loss begins."""

SURROUNDINGS = 11
"""Pixels along a side, over which local means are taken; what differs from them is texture."""

HEADROOM, KEPT_TEXTURE, LEAST_HEADROOM = 0.1, 0.8, 0.01
"""How far below the brighter source the fused image is wanted there, how much of the darker one's texture, and what
headroom counts as none."""


def content_loss(fused: Tensor, mri: Tensor, partner: Tensor, target: str = TrainingConfig.content_target) -> Tensor:
    """Mean absolute difference to the ``brighter`` source, or to ``both``: the sum of the two.

    The paper says only "l1-norm". Against both sources the fused image comes out at half contrast, since either
    modality is dark where the other is informative; the brighter one keeps both.
    """
    if target == "both":
        return functional.l1_loss(fused, mri) + functional.l1_loss(fused, partner)
    return functional.l1_loss(fused, torch.maximum(mri, partner))


def headroom_loss(
    fused: Tensor, mri: Tensor, partner: Tensor, headroom_from: float = TrainingConfig.headroom_from
) -> Tensor:
    """How far the headroom below white is from what is wanted where both sources are bright: mean ratio, as logarithm.

    There the content loss asks for the screen's white, and the darker source's texture is lost in it. This asks for
    `HEADROOM` below the brighter one, and the darker one's texture on top. Ratios, since a sigmoid that is deep in
    saturation has no slope left for differences to climb.
    """
    means = [_surroundings(side) for side in (mri, partner)]
    both_bright = _rising(torch.maximum(*means), headroom_from, min(headroom_from + 0.2, 1.0))
    both_bright = both_bright * _rising(
        torch.minimum(*means), headroom_from - DARKER_BY, headroom_from - DARKER_BY + 0.2
    )
    texture = torch.where(mri < partner, mri - means[0], partner - means[1])
    wanted = torch.maximum(mri, partner) - HEADROOM + KEPT_TEXTURE * texture
    ratio = ((1 + LEAST_HEADROOM - fused) / (1 + LEAST_HEADROOM - wanted.clamp(0, 1))).log().abs()
    # A few such pixels count as few.
    return (both_bright * ratio).mean() / (both_bright.mean() + 0.01)


def _surroundings(image: Tensor) -> Tensor:
    return functional.avg_pool2d(image, SURROUNDINGS, 1, SURROUNDINGS // 2, count_include_pad=False)


def _rising(values: Tensor, begin: float, end: float) -> Tensor:
    return ((values - begin) / (end - begin)).clamp(0, 1)


def sobel(image: Tensor) -> Tensor:
    """Gradient along x and y by Sobel filters, borders repeated: ``(N, 1, H, W) -> (N, 2, H, W)``."""
    along_x = image.new_tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    kernels = torch.stack((along_x, along_x.T))[:, None]
    return functional.conv2d(functional.pad(image, (1, 1, 1, 1), mode="replicate"), kernels)


def gradient_loss(
    fused: Tensor, mri: Tensor, partner: Tensor, mri_gradient_margin: float = TrainingConfig.mri_gradient_margin
) -> Tensor:
    """Eq. 12 with directions: mean difference between the fused gradient and the stronger of the sources'.

    The paper compares magnitudes. They are the same for a dark line on a bright ground and a bright line on a dark one,
    so a network may reach the right strength with the wrong picture; the vector of the stronger source cannot be
    reached that way. The MRI counts as stronger where it exceeds the partner by the factor ``mri_gradient_margin``.
    """
    of_mri, of_partner = sobel(mri), sobel(partner)
    stronger = of_mri.abs().sum(1, keepdim=True) > mri_gradient_margin * of_partner.abs().sum(1, keepdim=True)
    wanted = torch.where(stronger, of_mri, of_partner)
    return (sobel(fused) - wanted).abs().sum(1).mean()


def magnitude_loss(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Eq. 12 as printed: mean difference between the fused gradient's magnitude and the larger of the sources'.

    The magnitude is ``|x| + |y|``, as in the network's own gradient filters.
    """
    of_fused, of_mri, of_partner = (sobel(side).abs().sum(1) for side in (fused, mri, partner))
    return functional.l1_loss(of_fused, torch.maximum(of_mri, of_partner))


def complement_loss(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Mean of 1 − correlation between what fusion added to one source, and the other source; in [0, 2].

    Where both sources are grey, copying the brighter one loses what the other says; this asks for it. The sum of the
    correlations is the score of Aslantas and Bendes (2015), doi:10.1016/j.aeue.2015.09.004.
    """
    return 1 - (_correlation(fused - partner, mri) + _correlation(fused - mri, partner)).mean() / 2


def preservation_loss(
    fused: Tensor,
    mri: Tensor,
    partner: Tensor,
    mri_under_bright: float = TrainingConfig.mri_under_bright,
    partner_under_bright: float = TrainingConfig.partner_under_bright,
) -> Tensor:
    """Share of both sources' edges that the fused slice does not keep; in (0, 1).

    The gradient loss asks for one source's edge at each pixel and forgets the other's. This asks for both, each as far
    as the other allows: an edge is kept where strength and direction of the fused gradient come near its own, by the
    sigmoids of Xydeas and Petrović (2000), doi:10.1049/el:20000267. Unlike theirs the angle is that between vectors, so
    that an inverted edge is none; and an edge under the bright part of the other source counts more.
    """
    of_fused, of_mri, of_partner = sobel(fused), sobel(mri), sobel(partner)
    mri_counts = _length(of_mri) * (1 + mri_under_bright * _bright(partner))
    partner_counts = _length(of_partner) * (1 + partner_under_bright * _bright(mri))
    kept = _kept(of_fused, of_mri) * mri_counts + _kept(of_fused, of_partner) * partner_counts
    return (1 - kept.sum((1, 2, 3)) / (mri_counts + partner_counts).sum((1, 2, 3))).mean()


def _kept(fused: Tensor, source: Tensor) -> Tensor:
    """How much of a source's gradient (N, 2, H, W) the fused one keeps at each pixel: (N, 1, H, W) in (0, 1)."""
    length, wanted = _length(fused), _length(source)
    strength = torch.minimum(length, wanted) / torch.maximum(length, wanted)
    cosine = (fused * source).sum(1, keepdim=True) / (length * wanted)
    # Short of ±1, where the slope of the arc cosine is infinite.
    direction = 1 - torch.acos(cosine.clamp(-0.9995, 0.9995)) / (math.pi / 2)
    return torch.sigmoid(15 * (strength - 0.5)) * torch.sigmoid(22 * (direction - 0.8))


def _length(gradient: Tensor) -> Tensor:
    return (gradient.square().sum(1, keepdim=True) + 1e-8).sqrt()


def _bright(image: Tensor) -> Tensor:
    return (image > 0.5 * image.amax((1, 2, 3), keepdim=True)).to(image.dtype)


def _correlation(one: Tensor, other: Tensor) -> Tensor:
    one = one - one.mean((1, 2, 3), keepdim=True)
    other = other - other.mean((1, 2, 3), keepdim=True)
    variances = one.square().mean((1, 2, 3)) * other.square().mean((1, 2, 3))
    # Patches as flat as 1e-4 of the range say nothing, and would divide by nearly nothing.
    return (one * other).mean((1, 2, 3)) / (variances + 1e-8).sqrt()


WANTED_CONTRAST = 0.6
"""Share of a lesion's contrast that is to be left: the sources share one range, so that not all can be."""


def lesion_loss(fused: Tensor, added: Tensor) -> Tensor:
    """What is missing of a lesion's contrast, as a share of what is wanted: mean over the lesions, 0 where all is left.

    Parameters
    ----------
    fused
        (N, 1, H, W); its last K patches are the first K, fused with what ``added`` (K, 1, H, W) says in one source.
    """
    change = fused[-len(added) :] - fused[: len(added)]
    kept = (change * added).sum((1, 2, 3)) / added.square().sum((1, 2, 3)).clamp(min=1e-6)
    return (1 - kept / WANTED_CONTRAST).relu().mean()


def structure(image: Tensor) -> Tensor:
    """Where an image holds detail: (N, 1, H, W) of 0 and 1.

    1 where the mean Sobel gradient over 5×5 pixels exceeds `DETAIL`, as a share of that of a step from 0 to 1.
    """
    strength = sobel(image).abs().sum(1, keepdim=True) / 8
    return (functional.avg_pool2d(strength, 5, 1, 2, count_include_pad=False) > DETAIL).to(image.dtype)


def spatial_mask_loss(logits: Tensor, source: Tensor) -> Tensor:
    """Cross-entropy between a spatial mask's logits (N, 2, H, W) and the `structure` of its branch's source.

    A penalty on density alone empties the mask within a few hundred steps: the network learns to do without the masked
    convolutions before they are worth anything. The logits are compared, not the mask: a mask that is full has no
    gradient left to become less.
    """
    return functional.cross_entropy(logits, structure(source)[:, 0].long())


def channel_mask_loss(principal: Tensor, principal_share: float) -> Tensor:
    """Penalty on the probability (channels, layers) of being principal: above a share in the mean, and undecided.

    The second part is zero at 0 and 1 and greatest at a half, where all channels start; without it they all slide under
    the share together, and none is principal.
    """
    return (principal.mean() - principal_share).relu() + 4 * (principal * (1 - principal)).mean()


def semantic_loss(main: Tensor, subsidiary: Tensor, classes: Tensor, subsidiary_weight: float) -> Tensor:
    """Eq. 15–17: cross-entropy of both heads' logits (N, C, H, W) against classes (N, H, W), main + δ·subsidiary."""
    return functional.cross_entropy(main, classes) + subsidiary_weight * functional.cross_entropy(subsidiary, classes)


class FusionLoss(nn.Module):
    """The weighted sum of the terms that compare pictures: content, gradient, SSIM, complement, preservation, headroom.

    Called as ``loss(fused, mri, partner)``; returns the sum and the unweighted terms by name (detached).
    """

    def __init__(
        self,
        weights: LossWeights | None = None,
        mri_gradient_margin: float = TrainingConfig.mri_gradient_margin,
        mri_under_bright: float = TrainingConfig.mri_under_bright,
        partner_under_bright: float = TrainingConfig.partner_under_bright,
        headroom_from: float = TrainingConfig.headroom_from,
        content_target: str = TrainingConfig.content_target,
        gradient_form: str = TrainingConfig.gradient_form,
    ) -> None:
        super().__init__()
        self.weights = weights or LossWeights()
        self.mri_gradient_margin = mri_gradient_margin
        self.headroom_from = headroom_from
        self.content_target = content_target
        self.gradient_form = gradient_form
        self.under_bright = mri_under_bright, partner_under_bright
        self.dissimilarity = SSIMLoss(spatial_dims=2, data_range=1.0, kernel_type="uniform", win_size=7)

    def forward(self, fused: Tensor, mri: Tensor, partner: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        terms = {}
        for name, term in self._terms(fused, mri, partner).items():
            # What counts nothing is logged, and needs no gradient.
            with torch.set_grad_enabled(torch.is_grad_enabled() and getattr(self.weights, name) > 0):
                terms[name] = term()
        total = torch.stack([getattr(self.weights, name) * term for name, term in terms.items()]).sum()
        return total, {name: term.detach() for name, term in terms.items()}

    def _terms(self, fused: Tensor, mri: Tensor, partner: Tensor) -> dict[str, Callable[[], Tensor]]:
        sides = fused, mri, partner

        def gradient() -> Tensor:
            if self.gradient_form == "magnitudes":
                return magnitude_loss(*sides)
            return gradient_loss(*sides, self.mri_gradient_margin)

        return {
            "content": lambda: content_loss(*sides, self.content_target),
            "gradient": gradient,
            # Eq. 13: one minus SSIM, summed over both sources.
            "ssim": lambda: self.dissimilarity(fused, mri) + self.dissimilarity(fused, partner),
            "complement": lambda: complement_loss(*sides),
            "preservation": lambda: preservation_loss(*sides, *self.under_bright),
            "headroom": lambda: headroom_loss(*sides, self.headroom_from),
        }


class LossByTask(nn.Module):
    """Each patch of a batch by the `FusionLoss` of its task.

    Called as ``loss(fused, mri, partner, tasks)`` with one task a patch; returns what `FusionLoss` does, each mean over
    all patches. Tasks that share a loss are computed at once.
    """

    def __init__(self, losses: Mapping[str, FusionLoss]) -> None:
        super().__init__()
        self.by_task = dict(losses)
        self.distinct = nn.ModuleList(dict.fromkeys(losses.values()))

    def forward(
        self, fused: Tensor, mri: Tensor, partner: Tensor, tasks: Sequence[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        members: dict[FusionLoss, list[int]] = {}
        for index, task in enumerate(tasks):
            members.setdefault(self.by_task[task], []).append(index)
        total = fused.new_zeros(())
        terms: dict[str, Tensor] = {}
        for loss, own in members.items():
            # Not indexed where all are alike: copies would cost, and change the last digit.
            sides = (fused, mri, partner) if len(members) == 1 else (fused[own], mri[own], partner[own])
            part, its_terms = loss(*sides)
            share = len(own) / len(tasks)
            total = total + share * part
            terms = {name: terms.get(name, 0.0) + share * term for name, term in its_terms.items()}
        return total, terms


def loss_by_task(config: TrainingConfig, tasks: Sequence[str]) -> LossByTask:
    """The loss of each task by the settings; `TrainingError` where ``for_tasks`` names others."""
    losses: dict[tuple[Any, ...], FusionLoss] = {}
    by_task = {}
    forms = config.content_target, config.gradient_form
    for task in tasks:
        own = config.for_task(task)
        under_bright = own.mri_under_bright, own.partner_under_bright
        settings = own.loss_weights, own.mri_gradient_margin, *under_bright, own.headroom_from, *forms
        by_task[task] = losses.setdefault(settings, FusionLoss(*settings))
    if strange := {each["task"] for each in config.for_tasks} - set(tasks):
        raise TrainingError(f"for_tasks must name tasks among {', '.join(tasks)}; found {', '.join(sorted(strange))}.")
    return LossByTask(by_task)
