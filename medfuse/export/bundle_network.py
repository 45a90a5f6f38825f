"""Run the networks of a MONAI bundle: MRI and partner come as the two channels of one picture, as bundles have it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from medfuse.export.program_file import load_program
from medfuse.gesenet.architecture import Parts, Widths
from medfuse.gesenet.network import GeSeNet


class StackedGeSeNet(nn.Module):
    """GeSeNet, called with (N, 2, H, W): the MRI's and the partner's luma in [0, 1]; returns (N, 1, H, W) in [0, 1].

    Parameters
    ----------
    parts, widths
        As `medfuse.gesenet.GeSeNet` has them, by name; the paper's where they are not given.
    """

    def __init__(self, parts: Mapping[str, bool] | None = None, widths: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.network = GeSeNet(Parts(**parts or {}), Widths(**widths or {}))

    def forward(self, image: Tensor) -> Tensor:
        fused: Tensor = self.network(*halves(image))
        return fused


class StackedProgram(nn.Module):
    """A torch.export program of a bundle, called with (N, 2, H, W) in [0, 1]; returns (N, 1, H, W) in [0, 1].

    Parameters
    ----------
    path
        File of the program.
    device
        Where it computes: constants of a program move only while it is loaded.
    """

    def __init__(self, path: str | Path, device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.program = load_program(path, str(device))

    def forward(self, image: Tensor) -> Tensor:
        fused: Tensor = self.program(*halves(image))
        return fused


def halves(image: Tensor) -> tuple[Tensor, Tensor]:
    """The channels of (N, 2, H, W), as plain tensors of one channel each; `ValueError` where there are not two."""
    if image.ndim != 4 or image.shape[1] != 2:
        raise ValueError(
            f"expected (N, 2, H, W), MRI and partner luma in [0, 1]; found {tuple(image.shape)}. Stack the two "
            "pictures along axis 1."
        )
    plain = image.as_subclass(Tensor)
    return plain[:, :1], plain[:, 1:]
