"""Leave out the channels of a network that are zero for every picture."""

from __future__ import annotations

from dataclasses import asdict
from itertools import accumulate
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from medfuse.gesenet.architecture import MULTIPLES, STEM_CHANNELS, Widths
from medfuse.gesenet.loading import build_network, load_network, save_network
from medfuse.gesenet.masks import REDUNDANT
from medfuse.gesenet.network import Branch, EdgeEnhancement, GeSeNet, RegionMask

Wiring = dict[str, tuple[str, list[str]]]
"""For each convolution by its name, the group of channels that it makes, and those that enter it, in order."""


def compacted(network: GeSeNet) -> GeSeNet:
    """Build a network of the channels that are left; it computes the same, up to the rounding of sums.

    Both branches keep equally many channels, and as many as `medfuse.gesenet.architecture.MULTIPLES` asks for: where
    fewer are left, channels of zeros fill them up.

    Parameters
    ----------
    network
        With or without channels whose kernels and biases are all zero. It stays as it is.

    Returns
    -------
    GeSeNet
        On the same device, in the same mode, with the origin and the parameters' ``requires_grad`` of the first.
    """
    wiring = _of_branch("mri", network.mri) | _of_branch("partner", network.partner) | _of_trunk(network)
    state = {name: array.detach().cpu() for name, array in network.state_dict().items()}
    alive = _alive(wiring, state)
    widths = asdict(network.widths) | dict.fromkeys(map(_width, alive), 0)
    for group, found in alive.items():
        width, multiple = _width(group), MULTIPLES.get(_width(group), 1)
        widths[width] = max(widths[width], multiple, -(-int(found.sum()) // multiple) * multiple)
    # Those that are not zero come first, each kind in order.
    order = {group: found.logical_not().int().argsort(stable=True) for group, found in alive.items()}
    kept = {group: places[: widths[_width(group)]].sort().values for group, places in order.items()}
    state |= _cut(wiring, state, kept)
    for name in [name for name in state if name.endswith("channel_logits")]:
        groups = [f"{name.split('.')[0]}.body.{layer}" for layer in range(state[name].shape[2])]
        logits = torch.stack([state[name][0, kept[group], layer] for layer, group in enumerate(groups)], dim=1)
        # A channel of zeros needs to be computed nowhere.
        logits[torch.stack([~alive[group][kept[group]] for group in groups], dim=1)] = torch.eye(2)[REDUNDANT]
        state[name] = logits[None]
    narrow = build_network(state, network.parts, Widths(**widths)).to(next(network.parameters()).device)
    for mine, its in zip(narrow.parameters(), network.parameters(), strict=True):
        mine.requires_grad_(its.requires_grad)
    narrow.origin = dict(network.origin)
    return narrow.train(network.training)


def compact_file(source: Path, target: Path) -> None:
    """Write a ``.safetensors`` file anew without channels of zeros; its precision and its metadata stay."""
    network = compacted(load_network(source))
    with safe_open(source, "pt") as file:
        metadata, dtype = file.metadata(), file.get_tensor("mri.stem.weight").dtype
    save_network(network, target, metadata, dtype)


def _width(group: str) -> str:
    """Which width says how many channels a group has; empty where all stay."""
    return next((part for part in group.split(".") if part in asdict(Widths())), "")


def _alive(wiring: Wiring, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """For each group that may lose channels: which (channels,) have a kernel or a bias that is not zero."""
    alive: dict[str, Tensor] = {}
    for name, (made, _) in wiring.items():
        if _width(made) and not name.endswith("excite"):  # which weighs the channels that others make
            parts = [state[key] for key in (f"{name}.weight", f"{name}.bias") if key in state]
            found = torch.cat([part.reshape(len(part), -1) for part in parts], dim=1).ne(0).any(dim=1)
            alive[made] = alive.get(made, found) | found
    return alive


def _cut(wiring: Wiring, state: dict[str, Tensor], kept: dict[str, Tensor]) -> dict[str, Tensor]:
    """Kernels and biases among the channels that are kept."""
    sizes = {"mri.stem": STEM_CHANNELS, "partner.stem": STEM_CHANNELS}
    sizes |= {made: len(state[f"{name}.weight"]) for name, (made, _) in wiring.items()}
    kept = {group: torch.arange(size) for group, size in sizes.items()} | kept
    cut = {}
    for name, (made, entering) in wiring.items():
        begins = accumulate((sizes[group] for group in entering), initial=0)
        into = torch.cat([kept[group] + begin for group, begin in zip(entering, begins, strict=False)])
        cut[f"{name}.weight"] = state[f"{name}.weight"][kept[made]][:, into]
        if f"{name}.bias" in state:
            cut[f"{name}.bias"] = state[f"{name}.bias"][kept[made]]
    return cut


def _of_branch(name: str, branch: Branch) -> Wiring:
    stem, first, second, edge, mask, gate = (
        f"{name}.{group}" for group in ("stem", "first", "second", "edge", "mask", "gate")
    )
    if isinstance(branch.edge, EdgeEnhancement):
        wiring: Wiring = {
            f"{name}.edge.dense.first": (first, [stem]),
            f"{name}.edge.dense.second": (second, [stem, first]),
            f"{name}.edge.down": (edge, [stem, first, second]),
            f"{name}.edge.up": (edge, [stem]),
        }
    else:
        wiring = {f"{name}.edge.0": (edge, [stem])}
    if isinstance(branch.region, RegionMask):
        entering, region = stem if branch.swapped else edge, f"{name}.region"
        bodies = [f"{name}.body.{layer}" for layer in range(len(branch.region.body.convolutions))]
        for layer, (body, into) in enumerate(zip(bodies, [entering, *bodies], strict=False)):
            wiring[f"{region}.body.convolutions.{layer}"] = (body, [into])
        wiring[f"{region}.body.collect"] = (entering, bodies)
        wiring[f"{region}.spatial.enter"] = (mask, [entering])
        wiring[f"{region}.attention.squeeze"] = (gate, [entering])
        wiring[f"{region}.attention.excite"] = (entering, [gate])
    return wiring


def _of_trunk(network: GeSeNet) -> Wiring:
    wiring: Wiring = {}
    features = ["partner.edge", "mri.edge"]
    if network.parts.refinement:
        wiring["refinement.scale.0"] = ("scale", ["mri.edge"])
        wiring["refinement.scale.2"] = ("scaled", ["scale"])
        wiring["refinement.shift.0"] = ("shift", ["mri.edge"])
        wiring["refinement.shift.2"] = ("merged", ["shift"])
        wiring["refinement.merge"] = ("merged", [*features, "scaled"])
        features = ["merged"]
    if network.parts.skip:
        features = [*features, "partner.edge"]
    return wiring | {"decoder.0": ("decoder", features), "decoder.2": ("picture", ["decoder"])}
