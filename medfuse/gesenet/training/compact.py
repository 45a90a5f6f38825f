"""Leave out the channels of a network that are zero for every picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, cast

import torch
from safetensors import safe_open
from torch import Tensor

from medfuse.gesenet.architecture import MULTIPLES, STEM_CHANNELS, Widths
from medfuse.gesenet.loading import build_network, load_network, save_network
from medfuse.gesenet.masks import REDUNDANT
from medfuse.gesenet.network import Branch, EdgeEnhancement, GeSeNet, RegionMask

Wiring = dict[str, tuple[str, list[str]]]
"""For each convolution by its name, the group of channels that it makes, and those that enter it, in order."""


class Remaining(NamedTuple):
    """Which channels of a network are left: places in each group, which of them are not all zero, and the widths."""

    places: dict[str, Tensor]
    alive: dict[str, Tensor]
    widths: Widths


def remaining(network: GeSeNet) -> Remaining:
    """Find the channels whose kernels and biases are not all zero.

    Both branches keep equally many channels, and as many as `medfuse.gesenet.architecture.MULTIPLES` asks for: where
    fewer are left, channels of zeros fill them up.
    """
    state = {name: array.detach().cpu() for name, array in network.state_dict().items()}
    alive = {}
    for group, names in makers(network).items():
        parts = [state[key] for name in names for key in (f"{name}.weight", f"{name}.bias") if key in state]
        alive[group] = torch.cat([part.reshape(len(part), -1) for part in parts], dim=1).ne(0).any(dim=1)
    widths = asdict(network.widths) | dict.fromkeys(map(width_of, alive), 0)
    for group, found in alive.items():
        width, multiple = width_of(group), MULTIPLES.get(width_of(group), 1)
        widths[width] = max(widths[width], multiple, -(-int(found.sum()) // multiple) * multiple)
    # Those that are not zero come first, each kind in order.
    order = {group: found.logical_not().int().argsort(stable=True) for group, found in alive.items()}
    places = {group: places[: widths[width_of(group)]].sort().values for group, places in order.items()}
    return Remaining(places, {group: found[places[group]] for group, found in alive.items()}, Widths(**widths))


def compacted(network: GeSeNet, left: Remaining | None = None) -> GeSeNet:
    """Build a network of the channels that are left; it computes the same, up to the rounding of sums.

    Parameters
    ----------
    network
        With or without channels whose kernels and biases are all zero. It stays as it is.
    left
        Its `remaining` channels, where they are known.

    Returns
    -------
    GeSeNet
        On the same device, in the same mode, with the origin and the parameters' ``requires_grad`` of the first.
    """
    left = left or remaining(network)
    state = selected(network, {name: array.detach().cpu() for name, array in network.state_dict().items()}, left)
    for name in [name for name in state if name.endswith("channel_logits")]:
        # A channel of zeros needs to be computed nowhere.
        gone = ~torch.stack([left.alive[group] for group in _masked(name, state[name])], dim=1)
        state[name][0, gone] = torch.eye(2)[REDUNDANT]
    narrow = build_network(state, network.parts, left.widths).to(next(network.parameters()).device)
    for mine, its in zip(narrow.parameters(), network.parameters(), strict=True):
        mine.requires_grad_(its.requires_grad)
    narrow.origin = dict(network.origin)
    return narrow.train(network.training)


def selected(network: GeSeNet, arrays: Mapping[str, Tensor], left: Remaining) -> dict[str, Tensor]:
    """Arrays by the names and in the shapes of a network's own, among the channels that are left; some may be absent.

    What an optimizer remembers of each weight is cut so as the weights are.
    """
    wiring = _wiring(network)
    sizes = {"mri.stem": STEM_CHANNELS, "partner.stem": STEM_CHANNELS}
    sizes |= {made: len(cast("Tensor", network.get_submodule(name).weight)) for name, (made, _) in wiring.items()}
    places = {group: torch.arange(size) for group, size in sizes.items()} | left.places
    cut = dict(arrays)
    for name, (made, entering) in wiring.items():
        begins = accumulate((sizes[group] for group in entering), initial=0)
        into = torch.cat([places[group] + begin for group, begin in zip(entering, begins, strict=False)])
        if f"{name}.weight" in arrays:
            cut[f"{name}.weight"] = arrays[f"{name}.weight"][places[made]][:, into]
        if f"{name}.bias" in arrays:
            cut[f"{name}.bias"] = arrays[f"{name}.bias"][places[made]]
    for name in [name for name in arrays if name.endswith("channel_logits")]:
        groups = _masked(name, arrays[name])
        cut[name] = torch.stack([arrays[name][0, places[group], layer] for layer, group in enumerate(groups)], 1)[None]
    return cut


def _masked(logits: str, array: Tensor) -> list[str]:
    """Groups that the channel logits (1, channels, layers, 2) of that name are of, by layer."""
    return [f"{logits.split('.')[0]}.body.{layer}" for layer in range(array.shape[2])]


def compact_file(source: Path, target: Path) -> None:
    """Write a ``.safetensors`` file anew without channels of zeros; its precision and its metadata stay."""
    network = compacted(load_network(source))
    with safe_open(source, "pt") as file:
        metadata, dtype = file.metadata(), file.get_tensor("mri.stem.weight").dtype
    save_network(network, target, metadata, dtype)


def width_of(group: str) -> str:
    """Which width says how many channels a group has; empty where all stay."""
    return next((part for part in group.split(".") if part in asdict(Widths())), "")


def makers(network: GeSeNet) -> dict[str, list[str]]:
    """For each group that may lose channels, the convolutions that make it: their outputs are added."""
    found: dict[str, list[str]] = {}
    for name, (made, _) in _wiring(network).items():
        if width_of(made) and not name.endswith("excite"):  # which weighs the channels that others make
            found.setdefault(made, []).append(name)
    return found


def _wiring(network: GeSeNet) -> Wiring:
    wiring = _of_branch("mri", network.mri) | _of_branch("partner", network.partner)
    features = ["partner.edge", "mri.edge"]
    if network.parts.refinement:
        wiring["refinement.scale.0"] = ("scale", ["mri.edge"])
        wiring["refinement.scale.2"] = ("scaled", ["scale"])
        wiring["refinement.shift.0"] = ("shift", ["mri.edge"])
        wiring["refinement.merge"] = ("merged", [*features, "scaled"])
        wiring["refinement.shift.2"] = ("merged", ["shift"])
        features = ["merged"]
    if network.parts.skip:
        features = [*features, "partner.edge"]
    return wiring | {"decoder.0": ("decoder", features), "decoder.2": ("picture", ["decoder"])}


def _of_branch(name: str, branch: Branch) -> Wiring:
    """Convolutions of one branch, in the order in which checkpoints hold what `Pruning` has learnt of them."""
    stem, first, second, edge, mask, gate = (
        f"{name}.{group}" for group in ("stem", "first", "second", "edge", "mask", "gate")
    )
    entering, region = stem if branch.swapped else edge, f"{name}.region"
    wiring: Wiring = {}
    bodies: list[str] = []
    if isinstance(branch.region, RegionMask):
        bodies = [f"{name}.body.{layer}" for layer in range(len(branch.region.body.convolutions))]
        for layer, (body, into) in enumerate(zip(bodies, [entering, *bodies], strict=False)):
            wiring[f"{region}.body.convolutions.{layer}"] = (body, [into])
    if isinstance(branch.edge, EdgeEnhancement):
        wiring[f"{name}.edge.down"] = (edge, [stem, first, second])
        wiring[f"{name}.edge.up"] = (edge, [stem])
        wiring[f"{name}.edge.dense.first"] = (first, [stem])
        wiring[f"{name}.edge.dense.second"] = (second, [stem, first])
    else:
        wiring[f"{name}.edge.0"] = (edge, [stem])
    if bodies:
        wiring[f"{region}.body.collect"] = (entering, bodies)
        wiring[f"{region}.spatial.enter"] = (mask, [entering])
        wiring[f"{region}.attention.squeeze"] = (gate, [entering])
        wiring[f"{region}.attention.excite"] = (entering, [gate])
    return wiring
