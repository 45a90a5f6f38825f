"""What a good fused slice is, as differentiable terms.

Li et al. (GeSeNet, doi:10.1109/TNNLS.2023.3293274), Eq. 9–14. All take (N, 1, H, W) tensors in [0, 1] and return a
scalar.
"""

from __future__ import annotations

import torch
from monai.losses.ssim_loss import SSIMLoss
from torch import Tensor, nn
from torch.nn import functional


def content_loss(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Mean absolute difference to the brighter source.

    The paper says only "l1-norm". Against the mean of both sources the fused image comes out at half contrast, since
    either modality is dark where the other is informative; the brighter one keeps both.
    """
    return functional.l1_loss(fused, torch.maximum(mri, partner))


def sobel_magnitude(image: Tensor) -> Tensor:
    """Gradient magnitude, absolute values of x and y summed, by Sobel filters, borders repeated, shape kept."""
    sobel = image.new_tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    kernels = torch.stack((sobel, sobel.T))[:, None]
    padded = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(padded, kernels).abs().sum(1, keepdim=True)


def gradient_loss(fused: Tensor, mri: Tensor, partner: Tensor) -> Tensor:
    """Eq. 12: mean difference between the fused gradient magnitude and the stronger of the sources'."""
    strongest = torch.maximum(sobel_magnitude(mri), sobel_magnitude(partner))
    return functional.l1_loss(sobel_magnitude(fused), strongest)


class FusionLoss(nn.Module):
    """Content + γ·gradient + α·SSIM, with the paper's weights by default.

    Called as ``loss(fused, mri, partner)``; returns the weighted sum and the unweighted terms by name (detached).
    """

    def __init__(self, gradient_weight: float = 10.0, ssim_weight: float = 0.5) -> None:
        super().__init__()
        self.gradient_weight = gradient_weight
        self.ssim_weight = ssim_weight
        self.dissimilarity = SSIMLoss(spatial_dims=2, data_range=1.0, kernel_type="uniform", win_size=7)

    def forward(self, fused: Tensor, mri: Tensor, partner: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        terms = {
            "content": content_loss(fused, mri, partner),
            "gradient": gradient_loss(fused, mri, partner),
            # Eq. 13: one minus SSIM, summed over both sources.
            "ssim": self.dissimilarity(fused, mri) + self.dissimilarity(fused, partner),
        }
        total = terms["content"] + self.gradient_weight * terms["gradient"] + self.ssim_weight * terms["ssim"]
        return total, {name: term.detach() for name, term in terms.items()}
