"""The GeSeNet fusion network: two source branches, one refinement, one decoder.

Li et al., "GeSeNet: A General Semantic-Guided Network With Couple Mask Ensemble for Medical Image Fusion", IEEE TNNLS
2023, doi:10.1109/TNNLS.2023.3293274, Fig. 3. Fully convolutional: any height and width, any batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfuse.gesenet.masks import CoupleMaskConvolutions, SpatialMask

STEM_CHANNELS = 16
CHANNELS = 32


class DenseBlock(nn.Module):
    """Two densely connected 3×3 convolutions: ``(N, 16, H, W) -> (N, 48, H, W)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        features = torch.cat((features, functional.leaky_relu(self.first(features), 0.2)), dim=1)
        return torch.cat((features, functional.leaky_relu(self.second(features), 0.2)), dim=1)


class GradientFilter(nn.Module):
    """Per-channel gradient magnitude |x| + |y|, started as Sobel filters and free to move from there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        sobel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
        self.x = nn.Parameter(sobel.expand(channels, 1, 3, 3).clone())
        self.y = nn.Parameter(sobel.T.expand(channels, 1, 3, 3).clone())

    def forward(self, features: Tensor) -> Tensor:
        channels = features.shape[1]
        along_x = functional.conv2d(features, self.x, padding=1, groups=channels)
        along_y = functional.conv2d(features, self.y, padding=1, groups=channels)
        return along_x.abs() + along_y.abs()


class EdgeEnhancement(nn.Module):
    """E, Eq. 1: convolutional features plus gradient features, ``(N, 16, H, W) -> (N, 32, H, W)``."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.dense = DenseBlock(channels)
        self.down = nn.Conv2d(3 * channels, out_channels, 1)
        self.gradient = GradientFilter(channels)
        self.up = nn.Conv2d(channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        summed = self.down(self.dense(features)) + self.up(self.gradient(features))
        return functional.leaky_relu(summed, 0.1)


class ChannelAttention(nn.Module):
    """Weigh each channel by a gate computed from the channel means."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        means = features.mean((2, 3), keepdim=True)
        gate: Tensor = self.excite(self.squeeze(means).relu()).sigmoid()
        return features * gate


class RegionMask(nn.Module):
    """M: masked convolutions with channel attention and a residual, ``(N, 32, H, W) -> (N, 32, H, W)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = SpatialMask(channels)
        self.body = CoupleMaskConvolutions(channels)
        self.attention = ChannelAttention(channels)

    def forward(self, features: Tensor) -> Tensor:
        weighed: Tensor = self.attention(self.body(features, self.spatial(features)))
        return weighed + features


class GlobalRefinement(nn.Module):
    """R, Eq. 3: merge both branches' features under the condition of the MRI's edges, 64 -> 64 channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        both = 2 * channels
        self.scale = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(channels, both, 3, padding=1)
        )
        self.shift = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.LeakyReLU(0.1), nn.Conv2d(channels, both, 1))
        self.merge = nn.Conv2d(2 * both, both, 3, padding=1)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        merged = self.merge(torch.cat((features, self.scale(condition)), dim=1))
        shift: Tensor = self.shift(condition)
        return functional.leaky_relu(merged, 0.01) + shift


class Branch(nn.Module):
    """One source image's way through stem, E and M."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, STEM_CHANNELS, 3, padding=1)
        self.edge = EdgeEnhancement(STEM_CHANNELS, CHANNELS)
        self.region = RegionMask(CHANNELS)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output of E and the output of M, each (N, 32, H, W)."""
        edges = self.edge(functional.leaky_relu(self.stem(image), 0.2))
        return edges, self.region(edges)


class GeSeNet(nn.Module):
    """Fuse an MRI slice with the luma of a CT, PET or SPECT slice.

    Called as ``network(mri, partner)`` with two (N, 1, H, W) floating-point tensors in [0, 1]; returns (N, 1, H, W) in
    [0, 1]. In training mode the couple masks are soft and random; in evaluation mode they are hard and the result is
    deterministic.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mri = Branch()
        self.partner = Branch()
        self.refinement = GlobalRefinement(CHANNELS)
        self.origin = {"name": "untrained", "sha256": ""}
        self.decoder = nn.Sequential(
            nn.Conv2d(3 * CHANNELS, CHANNELS, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(CHANNELS, 1, 3, padding=1)
        )

    def forward(self, mri: Tensor, partner: Tensor) -> Tensor:
        mri_edges, mri_regions = self.mri(mri)
        partner_edges, partner_regions = self.partner(partner)
        refined = self.refinement(torch.cat((partner_regions, mri_regions), dim=1), mri_edges)
        # The partner's edges skip to the decoder; the MRI's already condition the refinement.
        decoded: Tensor = self.decoder(torch.cat((refined, partner_edges), dim=1))
        return decoded.tanh() / 2 + 0.5

    def set_temperature(self, temperature: float) -> None:
        """Set the softness of the couple masks while training (> 0; 1 is soft, 0.4 nearly hard)."""
        for branch in (self.mri, self.partner):
            branch.region.spatial.temperature = temperature
            branch.region.body.temperature = temperature
