"""Define the GeSeNet fusion network: two source branches, one refinement, one decoder.

Li et al., "GeSeNet: A General Semantic-Guided Network With Couple Mask Ensemble for Medical Image Fusion", IEEE TNNLS
2023, doi:10.1109/TNNLS.2023.3293274, Fig. 3. Fully convolutional: any height and width, any batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfuse.gesenet.architecture import STEM_CHANNELS, Parts, Widths
from medfuse.gesenet.masks import CoupleMaskConvolutions, SpatialMask
from medfuse.methods.modules import STATE, checksum


class DenseBlock(nn.Module):
    """Two densely connected 3×3 convolutions: ``(N, C, H, W) -> (N, C + first + second, H, W)``."""

    def __init__(self, channels: int, first: int, second: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, first, 3, padding=1)
        self.second = nn.Conv2d(channels + first, second, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        features = torch.cat((features, functional.leaky_relu(self.first(features), 0.2)), dim=1)
        return torch.cat((features, functional.leaky_relu(self.second(features), 0.2)), dim=1)


class GradientFilter(nn.Module):
    """Per-channel gradient magnitude |x| + |y|, started as Sobel filters and free to move from there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        sobel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]], dtype=torch.float32)
        self.x = nn.Parameter(sobel.expand(channels, 1, 3, 3).clone())
        self.y = nn.Parameter(sobel.T.expand(channels, 1, 3, 3).clone())

    def forward(self, features: Tensor) -> Tensor:
        channels = features.shape[1]
        along_x = functional.conv2d(features, self.x, padding=1, groups=channels)
        along_y = functional.conv2d(features, self.y, padding=1, groups=channels)
        return along_x.abs() + along_y.abs()


class EdgeEnhancement(nn.Module):
    """E, Eq. 1: convolutional features plus gradient features, ``(N, C, H, W) -> (N, widths.edge, H, W)``."""

    def __init__(self, channels: int, widths: Widths) -> None:
        super().__init__()
        self.dense = DenseBlock(channels, widths.first, widths.second)
        self.down = nn.Conv2d(channels + widths.first + widths.second, widths.edge, 1)
        self.gradient = GradientFilter(channels)
        self.up = nn.Conv2d(channels, widths.edge, 1)

    def forward(self, features: Tensor) -> Tensor:
        summed = self.down(self.dense(features)) + self.up(self.gradient(features))
        return functional.leaky_relu(summed, 0.1)


class ChannelAttention(nn.Module):
    """Weigh each channel by a gate computed from the channel means."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def gate(self, means: Tensor) -> Tensor:
        """Channel means → weights in (0, 1), both (N, C, 1, 1)."""
        weights: Tensor = self.excite(self.squeeze(means).relu()).sigmoid()
        return weights

    def forward(self, features: Tensor) -> Tensor:
        return features * self.gate(features.mean((2, 3), keepdim=True))


class RegionMask(nn.Module):
    """M: masked convolutions with channel attention and a residual, ``(N, C, H, W) -> (N, C, H, W)``.

    ``widest`` is how many channels enter it in the paper's network: the mask's and the attention's hidden layers follow
    from that, however narrow the others are.
    """

    def __init__(self, channels: int, body: int, widest: int) -> None:
        super().__init__()
        self.spatial = SpatialMask(channels, widest // 4)
        self.body = CoupleMaskConvolutions(body, channels)
        self.attention = ChannelAttention(channels, widest // 16)

    def forward(self, features: Tensor) -> Tensor:
        weighed: Tensor = self.attention(self.body(features, self.spatial(features), self.body.channel_mask()))
        return weighed + features


class GlobalRefinement(nn.Module):
    """R, Eq. 3: merge both branches' features under the condition of the MRI's edges, 2·edge -> merged channels."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        edge, scale, shift, scaled, merged = widths.edge, widths.scale, widths.shift, widths.scaled, widths.merged
        self.scale = nn.Sequential(
            nn.Conv2d(edge, scale, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(scale, scaled, 3, padding=1)
        )
        self.shift = nn.Sequential(nn.Conv2d(edge, shift, 1), nn.LeakyReLU(0.1), nn.Conv2d(shift, merged, 1))
        self.merge = nn.Conv2d(2 * edge + scaled, merged, 3, padding=1)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        merged = self.merge(torch.cat((features, self.scale(condition)), dim=1))
        shift: Tensor = self.shift(condition)
        return functional.leaky_relu(merged, 0.01) + shift


class Branch(nn.Module):
    """One source image's way through stem, E and M."""

    def __init__(self, parts: Parts, widths: Widths) -> None:
        super().__init__()
        self.swapped = parts.swapped
        self.stem = nn.Conv2d(1, STEM_CHANNELS, 3, padding=1)
        self.edge = (
            EdgeEnhancement(STEM_CHANNELS, widths)
            if parts.edge
            else nn.Sequential(nn.Conv2d(STEM_CHANNELS, widths.edge, 1), nn.LeakyReLU(0.1))
        )
        entering, widest = (STEM_CHANNELS, STEM_CHANNELS) if parts.swapped else (widths.edge, Widths.edge)
        self.region = RegionMask(entering, min(widths.body, widest), widest) if parts.region else nn.Identity()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output of E, and that of the last module, each (N, widths.edge, H, W)."""
        features = functional.leaky_relu(self.stem(image), 0.2)
        if self.swapped:
            edges = self.edge(self.region(features))
            return edges, edges
        edges = self.edge(features)
        return edges, self.region(edges)


class GeSeNet(nn.Module):
    """Fuse an MRI slice with the luma of a CT, PET or SPECT slice.

    Called as ``network(mri, partner)`` with two (N, 1, H, W) floating-point tensors in [0, 1]; returns (N, 1, H, W) in
    [0, 1]. In training mode the couple masks are soft and random; in evaluation mode they are hard and the result is
    deterministic.
    """

    __jit_unused_properties__: ClassVar = ["origin"]
    """What `torch.jit` must not compile."""

    def __init__(self, parts: Parts | None = None, widths: Widths | None = None) -> None:
        super().__init__()
        self.parts = parts or Parts()
        self.widths = widths or Widths()
        self.mri = Branch(self.parts, self.widths)
        self.partner = Branch(self.parts, self.widths)
        edge, hidden = self.widths.edge, self.widths.decoder
        into_decoder = 2 * edge
        if self.parts.refinement:
            self.refinement = GlobalRefinement(self.widths)
            into_decoder = self.widths.merged
        if self.parts.skip:
            into_decoder += edge
        self.decoder = nn.Sequential(
            nn.Conv2d(into_decoder, hidden, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(hidden, 1, 3, padding=1)
        )
        self._loaded: tuple[dict[str, str], str | None] | None = None

    @property
    def origin(self) -> dict[str, str]:
        """Name and SHA-256 of the weights.

        They are those of the file that the network was loaded from while it holds the numbers of that file. Once it
        has learnt, the name says what it started from, and the checksum is that of the numbers it holds now, as
        `medfuse.methods.modules.checksum` computes it.
        """
        now = checksum(self) or ""
        if self._loaded is None:
            return {"name": STATE, "sha256": now}
        loaded, then = self._loaded
        return dict(loaded) if now == then else {"name": f"{STATE}, from {loaded['name']}", "sha256": now}

    @origin.setter
    def origin(self, loaded: Mapping[str, str]) -> None:
        self._loaded = dict(loaded), checksum(self)

    def forward(self, mri: Tensor, partner: Tensor) -> Tensor:
        mri_edges, mri_regions = self.mri(mri)
        partner_edges, partner_regions = self.partner(partner)
        features = torch.cat((partner_regions, mri_regions), dim=1)
        if self.parts.refinement:
            features = self.refinement(features, mri_edges)
        if self.parts.skip:
            # The partner's edges skip to the decoder; the MRI's already condition the refinement.
            features = torch.cat((features, partner_edges), dim=1)
        decoded: Tensor = self.decoder(features)
        return decoded.tanh() / 2 + 0.5

    def soften_masks(self, temperature: float) -> None:
        """Set how couple masks are drawn while training: 1 is soft, 0.4 nearly hard, 0 hard and without noise."""
        for module in self.modules():
            if isinstance(module, SpatialMask | CoupleMaskConvolutions):
                module.temperature = temperature
