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
    wiring = _wiring(network)
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
    kept = {group: places[: widths[width_of(group)]].sort().values for group, places in order.items()}
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
