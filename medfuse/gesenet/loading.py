"""Load and save GeSeNet's weights: the packaged ones, those of a training, or the file that its authors published."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, cast
from zipfile import ZipFile

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from medfuse.errors import WeightsError
from medfuse.gesenet.architecture import Parts, Widths
from medfuse.gesenet.network import GeSeNet
from medfuse.gesenet.weights import DEFAULT, GIVE, MOST_BYTES, weights_file
from medfuse.runtime.device import resolve_device
from medfuse.runtime.output.atomic_output import atomic_file
from medfuse.runtime.torch_settings import default_settings

TORCH_STARTS = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of `torch.save` start: a zip, or before PyTorch 1.6 a pickle of a number of its own."""

PUBLISHED_BRANCHES = {"inf_": "mri.", "vis_": "partner."}

PUBLISHED_BRANCH_PARTS = {
    "conv.conv": "stem",
    "eem.dense.conv1.conv": "edge.dense.first",
    "eem.dense.conv2.conv": "edge.dense.second",
    "eem.convdown.conv": "edge.down",
    "eem.sobelconv.convx.weight": "edge.gradient.x",
    "eem.sobelconv.convy.weight": "edge.gradient.y",
    "eem.convup.conv": "edge.up",
    "rmm.spa_mask.0": "region.spatial.enter",
    "rmm.spa_mask.3": "region.spatial.middle",
    "rmm.spa_mask.5": "region.spatial.leave",
    "rmm.body.ch_mask": "region.body.channel_logits",
    "rmm.body.body": "region.body.convolutions",
    "rmm.body.collect": "region.body.collect",
    "rmm.ca.conv_du.0": "region.attention.squeeze",
    "rmm.ca.conv_du.2": "region.attention.excite",
}

PUBLISHED_TRUNK_PARTS = {
    "sft.SFT_scale_conv0": "refinement.scale.0",
    "sft.SFT_scale_conv1": "refinement.scale.2",
    "sft.SFT_shift_conv0": "refinement.shift.0",
    "sft.SFT_shift_conv1": "refinement.shift.2",
    "sft.SFT2": "refinement.merge",
    "decoder2.conv": "decoder.0",
    "decoder1.conv": "decoder.2",
}

PUBLISHED_UNUSED = frozenset(
    f"decoder1.bn.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
)
"""The published file carries a batch norm that the published network never applies."""


@default_settings()
def load_network(weights: str | Path = "default", device: str = "cpu") -> GeSeNet:
    """Build GeSeNet with trained weights, in evaluation mode.

    Parameters
    ----------
    weights
        ``"default"`` for the weights that come with medfuse, a ``.safetensors`` file written by medfuse's training, the
        ``GeSeNet.pth`` that the paper's authors published, or the folder of a bundle that `medfuse.export.write_bundle`
        wrote. Pickled code is never run.
    device
        ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.

    Returns
    -------
    GeSeNet
        Its attribute ``origin`` names the weights and their SHA-256.

    Raises
    ------
    WeightsError
        If the file is absent, unreadable, unsafe, or does not hold exactly GeSeNet's arrays.
    DeviceError
        If the device is not there.
    """
    target = resolve_device(device)
    if str(weights) == DEFAULT:
        with as_file(files("medfuse.gesenet.weights") / f"{DEFAULT}.safetensors") as path:
            return _build(path, DEFAULT, target)
    path = weights_file(weights)
    return _build(path, Path(weights).resolve().name, target)


def weights_sha256(weights: str | Path = "default") -> str:
    """The SHA-256 of a weights file, as `load_network` notes it; `WeightsError` where there is no such file."""
    return hashlib.sha256(weights_content(weights)).hexdigest()


def weights_content(weights: str | Path = "default") -> bytes:
    """The bytes of a weights file; `WeightsError` where there is no such file."""
    if str(weights) == DEFAULT:
        return (files("medfuse.gesenet.weights") / f"{DEFAULT}.safetensors").read_bytes()
    return weights_file(weights).read_bytes()


def is_safetensors(start: bytes) -> bool:
    """Whether a file that starts so is one, whatever its name: the header's length in 8 bytes, then JSON."""
    return start[8:9] == b"{"


def _build(path: Path, name: str, device: torch.device) -> GeSeNet:
    network = build_network(*_read(path), name)
    network.origin = {"name": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    network.eval().requires_grad_(False).to(device)
    # Channels-last is faster on every device, and its annotation is missing in torch.
    return cast("GeSeNet", cast("Any", network).to(memory_format=torch.channels_last))


@default_settings()
def build_network(state: Mapping[str, Tensor], parts: Parts, widths: Widths, name: str = "the state") -> GeSeNet:
    """Build a network around given arrays, without drawing random numbers; `WeightsError` if they do not fit."""
    with torch.device("meta"):
        network = GeSeNet(parts, widths)
    _require_fit(state, network.state_dict(), name)
    network.load_state_dict({key: array.float() for key, array in state.items()}, assign=True)
    return network


def save_network(
    network: GeSeNet, path: Path, metadata: Mapping[str, str] | None = None, dtype: torch.dtype = torch.float32
) -> None:
    """Write a network's weights as `load_network` reads them: its parts and widths stand in the file's metadata.

    A file already there is replaced, at once or not at all; `ExportError` where it cannot be written.
    """
    own = {name: json.dumps(asdict(value)) for name, value in (("parts", network.parts), ("widths", network.widths))}
    state = {name: array.to("cpu", dtype).contiguous() for name, array in network.state_dict().items()}
    content = save(state, {**(metadata or {}), "format": "medfuse GeSeNet 2", **own})
    with atomic_file(path, overwrite=True) as temporary:
        temporary.write_bytes(content)


def _read(path: Path) -> tuple[dict[str, Tensor], Parts, Widths]:
    """Arrays, modules and widths; files that do not say what they hold have the paper's."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
        if is_safetensors(start):
            with safe_open(path, "pt") as opened:
                metadata = opened.metadata() or {}
            parts = json.loads(metadata.get("parts", "{}"))
            if not all(isinstance(value, bool) for value in parts.values()):
                raise TypeError
            return load_file(path), Parts(**parts), Widths(**json.loads(metadata.get("widths", "{}")))
        if not start.startswith(TORCH_STARTS):
            raise WeightsError(f"{path.name} is neither a .safetensors file nor one of PyTorch; {GIVE}")
        if start.startswith(b"PK") and _unpacked(path) > MOST_BYTES:
            raise WeightsError(f"{path.name} unpacks to more than a GeSeNet holds; {GIVE}")
        arrays = torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # whatever the readers meet in bytes that are no weights, down to a deep recursion
        raise WeightsError(
            f"{path.name} is no readable weights file, holds more than arrays, or names unknown parts or widths "
            f"({type(error).__name__}); {GIVE}"
        ) from error
    named = isinstance(arrays, dict) and all(isinstance(name, str) for name in arrays)
    if not named or not all(isinstance(array, Tensor) for array in arrays.values()):
        raise WeightsError(
            f"{path.name} does not hold named arrays; give the published GeSeNet.pth or a .safetensors file."
        )
    return from_published(arrays, path.name), Parts(), Widths()


def _unpacked(path: Path) -> int:
    """Bytes that a zip says its files have."""
    with ZipFile(path) as packed:
        return sum(member.file_size for member in packed.infolist())


def from_published(arrays: dict[str, Tensor], name: str = "the file") -> dict[str, Tensor]:
    """Rename the published arrays to those of `GeSeNet`; unknown ones raise `WeightsError`."""
    renamed = {}
    for published, array in arrays.items():
        if published in PUBLISHED_UNUSED:
            continue
        branch = next((prefix for prefix in PUBLISHED_BRANCHES if published.startswith(prefix)), "")
        parts = PUBLISHED_BRANCH_PARTS if branch else PUBLISHED_TRUNK_PARTS
        rest = published[len(branch) :]
        part = next((part for part in parts if rest == part or rest.startswith(f"{part}.")), None)
        if part is None:
            raise WeightsError(f"{name} holds the array {published[:60]!r}, which is not one of GeSeNet's.")
        renamed[PUBLISHED_BRANCHES.get(branch, "") + parts[part] + rest[len(part) :]] = array
    return renamed


def _require_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str) -> None:
    missing, unknown = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing or unknown:
        raise WeightsError(
            f"{name} is not a GeSeNet: missing are {len(missing)} of {len(expected)} arrays, and unknown are "
            f"{len(unknown)} (such as {min(missing | unknown)[:60]!r}); {GIVE}"
        )
    for key, array in expected.items():
        found = state[key]
        dense = found.layout is torch.strided and found.device.type == "cpu" and found.is_floating_point()
        if not dense or found.shape != array.shape or not found.isfinite().all():
            fits = dense and found.shape == array.shape
            what = "NaN or infinite ones" if fits else f"{found.dtype} {tuple(found.shape)}"
            raise WeightsError(
                f"{name}: the array {key} must be finite, dense numbers of shape {tuple(array.shape)}; found {what}. "
                "Take the file from where it was trained once more, or the weights 'default'."
            )
