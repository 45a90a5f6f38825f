"""Write a MONAI bundle: metadata, inference configuration, weights, licence and data sheet."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from medfuse.export.bundle_config import CHECKPOINT, INFERENCE, METADATA, PROGRAM, WEIGHTS, inference, metadata
from medfuse.export.bundle_network import StackedGeSeNet, StackedProgram
from medfuse.export.bundle_texts import data_licence, licence, model_card, readme
from medfuse.export.export_report import Exported
from medfuse.export.exportable import Exportable, exportable
from medfuse.export.program_file import report, save_program
from medfuse.export.trace import Size, require_same, require_size
from medfuse.gesenet.loading import build_network, save_network
from medfuse.gesenet.network import GeSeNet
from medfuse.gesenet.weights import DEFAULT
from medfuse.methods import MethodLike
from medfuse.methods.names import GESENET
from medfuse.runtime.json_text import json_text
from medfuse.runtime.output.atomic_output import atomic_folder
from medfuse.runtime.torch_settings import default_settings


def write_bundle(
    folder: str | Path,
    method: MethodLike = GESENET,
    *,
    weights: str | Path = DEFAULT,
    size: Size | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a MONAI bundle that `python -m monai.bundle run` fuses a folder of pairs with.

    GeSeNet is defined by its class, and its weights stand in ``models/model.pt`` and, as `medfuse.fuse` reads them with
    ``weights=folder``, in ``models/model.safetensors``. Other networks are defined by a torch.export program,
    ``models/network.pt2``, so that their code need not be there.

    Parameters
    ----------
    folder
        Folder to write.
    method, weights, size
        As of `write_program`.
    overwrite
        Whether a bundle already there is replaced; it may hold nothing but what medfuse wrote.

    Returns
    -------
    Exported
        What was written; its ``difference`` is that of the network as the bundle defines it.

    Raises
    ------
    MethodError, WeightsError
        As of `write_program`.
    ExportError
        If the folder cannot be written.
    """
    require_size(size)
    target = Path(folder)
    with atomic_folder(target, overwrite) as temporary:
        wanted = exportable(method, weights)
        for name in ("configs", "models", "docs"):
            (temporary / name).mkdir(parents=True)
        network, least_side = _network(wanted, temporary, size)
        difference = require_same(lambda mri, partner: network(torch.cat((mri, partner), 1)), wanted, size)
        state = network.state_dict()
        torch.save(state, temporary / CHECKPOINT)
        _write(temporary / INFERENCE, json_text(inference(wanted, learnt=bool(state)), indent=4) + "\n")
        _write_texts(wanted, temporary, size, least_side)
        digests = {
            path.relative_to(temporary).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        _write(temporary / METADATA, json_text(metadata(wanted, size, least_side, digests), indent=4) + "\n")
    return report(wanted, target, "bundle", size, difference)


@default_settings()
def _network(wanted: Exportable, folder: Path, size: Size | None) -> tuple[nn.Module, int]:
    """The network as the bundle defines it, whose files are written; and the shortest side that it takes."""
    if isinstance(wanted.network, GeSeNet):
        if wanted.content is None:
            save_network(wanted.network, folder / WEIGHTS)
        else:
            (folder / WEIGHTS).write_bytes(wanted.content)  # so that its SHA-256 stays that of the file it came from
        with torch.device("meta"):  # without drawing weights
            made = StackedGeSeNet(asdict(wanted.network.parts), asdict(wanted.network.widths))
        # Built anew, so that what is compared is what the bundle defines: a caller may have put other layers in.
        state = {name: array.detach().cpu() for name, array in wanted.network.state_dict().items()}
        made.network = build_network(state, wanted.network.parts, wanted.network.widths, "the network").eval()
        return made, 1
    facts, _ = save_program(wanted, folder / PROGRAM, size)
    return StackedProgram(folder / PROGRAM), int(facts.get("least_side", 1))


def _write_texts(wanted: Exportable, folder: Path, size: Size | None, least_side: int) -> None:
    free = "any" if least_side == 1 else f"any, from {least_side} × {least_side} pixels"
    _write(folder / "docs" / "README.md", readme(wanted, free if size is None else f"{size[0]} × {size[1]} pixels"))
    _write(folder / "docs" / "data_license.txt", data_licence(wanted))
    _write(folder / "LICENSE", licence(wanted))
    card = model_card(wanted)
    if card is not None:
        _write(folder / "docs" / "model_card.md", card)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
