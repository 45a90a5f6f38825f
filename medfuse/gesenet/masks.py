"""Predict couple masks, which say what part of the feature maps is worth computing, and convolve under them.

A spatial mask marks the places that matter, a channel mask marks the channels that are computed everywhere. Training
draws both from a Gumbel softmax, soft and noisy; inference takes the arg max, so that it is deterministic and the
masked-out work may be skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

PRINCIPAL, REDUNDANT = 0, 1
"""Meaning of the last axis of the channel logits."""


def gumbel_softmax(logits: Tensor, temperature: float, dim: int) -> Tensor:
    """Draw a soft one-hot sample from ``logits``, differentiable in them.

    Parameters
    ----------
    logits
        Unnormalised log-probabilities, any shape, floating point.
    temperature
        Softness; towards 0 the sample becomes one-hot. At exactly 0 it is the one-hot arg max, without noise, with the
        gradient of the plain softmax.
    dim
        The axis that holds the classes.

    Returns
    -------
    Tensor
        Same shape as ``logits``; non-negative, sums to 1 along ``dim``.
    """
    if temperature == 0:
        soft = logits.softmax(dim)
        hard = torch.zeros_like(soft).scatter_(dim, soft.argmax(dim, keepdim=True), 1.0)
        return hard + soft - soft.detach()
    exponential = torch.empty_like(logits).exponential_().clamp_min(torch.finfo(logits.dtype).tiny)
    return ((logits - exponential.log()) / temperature).softmax(dim)


class SpatialMask(nn.Module):
    """Predict from the features where redundant channels still count.

    ``(N, C, H, W) -> (N, 1, H, W)``: values in (0, 1) while training, exactly 0 or 1 in evaluation mode. Any height and
    width: odd ones are pooled with a partial last window and restored to their size.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, hidden, 3, padding=1)
        self.middle = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.leave = nn.ConvTranspose2d(hidden, 2, 3, stride=2, padding=1)
        # Nearly everything is marked at first: what is never computed never learns to be worth it.
        cast("Tensor", self.leave.bias).data.copy_(torch.tensor([-1.0, 1.0], dtype=torch.float32))
        self.temperature = 1.0

    def forward(self, features: Tensor) -> Tensor:
        hidden: Tensor = self.enter(features).relu()
        hidden = functional.avg_pool2d(hidden, 2, ceil_mode=True)
        hidden = self.middle(hidden).relu()
        logits: Tensor = self.leave(hidden, output_size=features.shape[-2:])
        if self.training:
            return gumbel_softmax(logits, self.temperature, dim=1)[:, 1:]
        # The second logit means "compute here".
        return (logits[:, 1:] > logits[:, :1]).to(features.dtype)


class CoupleMaskConvolutions(nn.Module):
    """Four 3×3 convolutions whose work a channel mask and a spatial mask restrict; their outputs collected by a 1×1.

    With the input of a layer split by the previous layer's channel mask into a principal part P and a redundant part R,
    and m the spatial mask, output channel c is ``conv(P) + m·conv(R)`` where c is principal and ``m·(conv(P) +
    conv(R))`` where c is redundant, then ReLU. The first layer's input counts as all principal.
    """

    def __init__(self, channels: int, entering: int, layers: int = 4) -> None:
        super().__init__()
        self.channel_logits = nn.Parameter(torch.rand(1, channels, layers, 2, dtype=torch.float32))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels if layer else entering, channels, 3, padding=1, bias=False) for layer in range(layers)
        )
        self.collect = nn.Conv2d(channels * layers, entering, 1)
        self.temperature = 1.0

    def channel_mask(self) -> Tensor:
        """Draw the channel mask (training) or decide it (evaluation).

        Returns
        -------
        Tensor
            (channels, layers), the share to which a channel is principal: in (0, 1) while training, else 0 or 1.
        """
        logits = self.channel_logits[0]
        if self.training:
            return gumbel_softmax(logits, self.temperature, dim=-1)[..., PRINCIPAL]
        return (logits[..., PRINCIPAL] >= logits[..., REDUNDANT]).to(logits.dtype)

    def principal(self) -> Tensor:
        """Probability (channels, layers) of each channel to be principal."""
        return self.channel_logits[0].softmax(-1)[..., PRINCIPAL]

    def forward(self, features: Tensor, spatial: Tensor, mask: Tensor) -> Tensor:
        """Convolve (N, entering, H, W) under a spatial mask (N, 1, H, W) and a channel mask (channels, layers)."""
        if self.training and not mask.requires_grad:
            return self._under_settled_channels(features, spatial, mask > 0.5)
        collected = []
        into = mask.new_ones(features.shape[1])
        for layer, convolution in enumerate(self.convolutions):
            out = mask[:, layer, None, None]
            # Masking the kernel's input channels equals masking the features, and copies no feature map.
            weight = cast("Tensor", convolution.weight)
            kernels = torch.cat((weight * into[:, None, None], weight * (1 - into)[:, None, None]))
            from_principal, from_redundant = functional.conv2d(features, kernels, padding=1).chunk(2, dim=1)
            everywhere = out * from_principal
            where_marked = from_redundant + (1 - out) * from_principal
            features = (everywhere + spatial * where_marked).relu()
            collected.append(features)
            into = mask[:, layer]
        gathered: Tensor = self.collect(torch.cat(collected, dim=1))
        return gathered

    def _under_settled_channels(self, features: Tensor, spatial: Tensor, principal: Tensor) -> Tensor:
        """As `forward` under a channel mask of True and False that learns nothing: half of the multiplications."""
        collected: list[Tensor] = []
        into = torch.ones_like(principal[:, 0])
        for layer, convolution in enumerate(self.convolutions):
            weight, out = cast("Tensor", convolution.weight), principal[:, layer]
            sums = functional.conv2d(features, weight, padding=1)
            marked = spatial * sums
            if out.any() and into.any():
                alone = functional.conv2d(features[:, into], weight[out][:, into], padding=1) if layer else sums[:, out]
                marked = marked.index_add(1, out.nonzero()[:, 0], (1 - spatial) * alone)
            features = marked.relu()
            collected.append(features)
            into = out
        gathered: Tensor = self.collect(torch.cat(collected, dim=1))
        return gathered


def work_share(spatial: Tensor, mask: Tensor, entering: int) -> Tensor:
    """Share of the masked convolutions' multiplications that their masks ask for.

    Principal outputs of principal inputs are computed everywhere, all else only where the spatial mask is set.

    Parameters
    ----------
    spatial
        (N, 1, H, W) in [0, 1].
    mask
        (channels, layers), the share to which a channel is principal.
    entering
        Channels that enter the first layer; all of them count as principal.

    Returns
    -------
    Tensor
        Scalar in [0, 1], differentiable in both masks.
    """
    channels, layers = mask.shape
    principal = mask.sum(0)
    before = torch.cat((principal.new_tensor([entering]), principal[:-1]))
    everywhere = (before * principal).sum() / (channels * (entering + (layers - 1) * channels))
    return everywhere + (1 - everywhere) * spatial.mean()


class Masks(NamedTuple):
    """What one branch's masks were: spatial (N, 1, H, W), channels (C, layers), and the spatial logits (N, 2, H, W).

    ``entering`` is how many channels enter the first masked convolution.
    """

    spatial: Tensor
    channels: Tensor
    logits: Tensor
    entering: int

    def work_share(self) -> Tensor:
        """Share of the multiplications that these masks ask for; see `work_share`."""
        return work_share(self.spatial.float(), self.channels, self.entering)


@contextmanager
def watch_masks(network: nn.Module) -> Iterator[list[Masks]]:
    """Collect the masks of every masked convolution that runs inside the ``with`` block.

    In the order in which they run: the MRI's branch, then the partner's.
    """
    seen: list[Masks] = []
    logits: list[Tensor] = []

    def remember_logits(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        logits.append(output)

    def remember(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(Masks(inputs[1], inputs[2], logits.pop(), inputs[0].shape[1]))

    hooks = []
    for module in network.modules():
        if isinstance(module, SpatialMask):
            hooks.append(module.leave.register_forward_hook(remember_logits))
        elif isinstance(module, CoupleMaskConvolutions):
            hooks.append(module.register_forward_pre_hook(remember))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


Decided = dict[nn.Module, Tensor]
"""What each spatial mask of a network was."""


@contextmanager
def record_masks(network: nn.Module, decided: Decided) -> Iterator[None]:
    """Within the block, write down what each spatial mask of a network becomes."""

    def remember(module: nn.Module, _: tuple[Any, ...], output: Tensor) -> None:
        decided[module] = output

    with _hooked(network, remember):
        yield


@contextmanager
def hold_masks(network: nn.Module, decided: Decided) -> Iterator[None]:
    """Within the block, each spatial mask is what was written down, whatever the pictures."""

    def put_back(module: nn.Module, _: tuple[Any, ...], __: Tensor) -> Tensor:
        return decided[module]

    with _hooked(network, put_back):
        yield


@contextmanager
def _hooked(network: nn.Module, hook: Callable[..., Tensor | None]) -> Iterator[None]:
    """Within the block, a forward hook on each spatial mask."""
    hooks = [each.register_forward_hook(hook) for each in network.modules() if isinstance(each, SpatialMask)]
    try:
        yield
    finally:
        for each in hooks:
            each.remove()


def fuse_and_hold(
    network: nn.Module, mri: Tensor, partner: Tensor, run: Callable[[Tensor, Tensor], Tensor] | None = None
) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """Fuse pictures, and return besides what fuses others of their size under the spatial masks of these.

    ``run`` calls the network, where that takes more than two pictures.
    """
    fuse: Callable[[Tensor, Tensor], Tensor] = run or network
    decided: Decided = {}
    with record_masks(network, decided):
        fused = fuse(mri, partner)

    def held(mri: Tensor, partner: Tensor) -> Tensor:
        with hold_masks(network, decided):
            return fuse(mri, partner)

    return fused, held
