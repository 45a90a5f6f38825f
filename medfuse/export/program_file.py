"""Write a network as a torch.export program (.pt2), and read such a program as a torch module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medfuse.errors import MethodError
from medfuse.export.export_report import Exported
from medfuse.export.exportable import INPUTS, OUTPUT, Exportable, exportable
from medfuse.export.trace import Size, least_side, quiet, require_size, trace
from medfuse.gesenet.weights import DEFAULT
from medfuse.methods import MethodLike
from medfuse.methods.names import GESENET
from medfuse.runtime.device import resolve_device
from medfuse.runtime.json_text import json_text
from medfuse.runtime.output.atomic_output import atomic_file
from medfuse.runtime.output.place import shown
from medfuse.runtime.torch_settings import default_settings

FACTS = "medfuse.json"
"""Name of the extra file inside a program that says what it is."""


class Program(nn.Module):
    """A torch.export program as a torch module, called with MRI and partner luma, (N, 1, H, W) float32 in [0, 1].

    Its parameters and buffers are those of the exported network.

    Parameters
    ----------
    program
        What `torch.export.load` gives.
    facts
        What the file says of itself.
    """

    def __init__(self, program: Any, facts: dict[str, Any]) -> None:
        super().__init__()
        self.facts = facts
        self.graph: nn.Module = program.module()

    def train(self, mode: bool = True) -> Program:
        """Take either mode and compute as in evaluation: a traced graph refuses to be told."""
        self.training = mode
        return self

    def forward(self, mri: Tensor, partner: Tensor) -> Tensor:
        fused: Tensor = self.graph(mri, partner)
        return fused


def write_program(
    path: str | Path,
    method: MethodLike = GESENET,
    *,
    weights: str | Path = DEFAULT,
    size: Size | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a network as a torch.export program.

    Parameters
    ----------
    path
        File to write, ``.pt2``.
    method
        What is exported, as of `medfuse.fuse`: ``gesenet``, a torch module, or what consists of tensor operations.
    weights
        Of ``gesenet`` alone.
    size
        Height and width of all pictures, for networks that take no others; by default they are free.
    overwrite
        Whether a file already there is replaced.

    Returns
    -------
    Exported
        What was written.

    Raises
    ------
    MethodError
        If the method is none, or its network cannot be exported so; the message says why.
    WeightsError
        If the weights are not GeSeNet's.
    ExportError
        If the file cannot be written.
    """
    require_size(size)
    target = Path(path)
    with atomic_file(target, overwrite) as temporary:
        wanted = exportable(method, weights)
        difference = save_program(wanted, temporary, size)[1]
    return report(wanted, target, "torch", size, difference)


def save_program(wanted: Exportable, path: Path, size: Size | None) -> tuple[dict[str, Any], float]:
    """Trace a network and write the program; returns what it says of itself, and its difference from the network."""
    program, difference = trace(wanted, size)
    facts = facts_of(wanted, program, size)
    with quiet():
        torch.export.save(program, path, extra_files={FACTS: json_text(facts, indent=1)})
    return facts, difference


def facts_of(wanted: Exportable, program: Any, size: Size | None) -> dict[str, Any]:
    """What a traced file says of itself: what it holds, what it takes and what it gives."""
    sides = ["H", "W"] if size is None else list(size)
    tensor = {"shape": ["N", 1, *sides], "dtype": "float32", "range": [0, 1]}
    least = {} if size else {"least_side": least_side(program)}
    return wanted.facts() | {"inputs": dict.fromkeys(INPUTS, tensor), "outputs": {OUTPUT: tensor}, **least}


def report(
    wanted: Exportable, path: Path, kind: str, size: Size | None, difference: float | None, opset: int | None = None
) -> Exported:
    """Say what was written."""
    return Exported(
        path, kind, wanted.name, wanted.version, wanted.source, wanted.weights, size or "any", opset, difference
    )


@default_settings()
def load_program(path: str | Path, device: str = "cpu") -> Program:
    """Read a program that `write_program` wrote, as a torch module: a ``method`` for `medfuse.fuse`.

    Parameters
    ----------
    path
        File, ``.pt2``. PyTorch reads it; take it from where you would take a program.
    device
        ``cpu``, ``cuda``, ``cuda:N`` or ``auto``: where it computes from then on.

    Raises
    ------
    MethodError
        If there is no such file, or it is no program.
    DeviceError
        If the device is not there.
    """
    file, target = Path(path), resolve_device(device)
    facts = {FACTS: ""}
    try:
        with quiet():
            program = torch.export.load(file, extra_files=facts)
            if target.type != "cpu":  # constants that were traced, too
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, str(target))
            return Program(program, json.loads(facts[FACTS] or "{}"))
    except Exception as error:  # whatever the reader meets in bytes that are no program
        raise MethodError(
            f"{shown(file)} is no torch.export program that can be read here ({type(error).__name__}); give a .pt2 "
            "file that `medfuse export torch` wrote."
        ) from error
