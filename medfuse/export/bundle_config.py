"""Describe a MONAI bundle: its metadata, and the configuration that runs it."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from medfuse.export.bundle_texts import is_default
from medfuse.export.exportable import Exportable
from medfuse.export.trace import Size
from medfuse.gesenet.network import GeSeNet
from medfuse.gesenet.weights import BUNDLED
from medfuse.provenance import DISCLAIMER, LABELS

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
"""The schema of bundles' metadata; `monai.bundle verify_metadata` downloads it from there."""

PAPER = (
    "Li et al., GeSeNet: A General Semantic-Guided Network With Couple Mask Ensemble for Medical Image Fusion, IEEE "
    "TNNLS 2023, doi:10.1109/TNNLS.2023.3293274"
)

CHECKPOINT, PROGRAM, WEIGHTS = "models/model.pt", "models/network.pt2", BUNDLED
METADATA, INFERENCE = "configs/metadata.json", "configs/inference.json"

ROOT = "$@bundle_root + '/"

MULTIPLE = 32
"""Side of the picture by which `verify_net_in_out` tries a network that does not take single pixels."""


def metadata(wanted: Exportable, size: Size | None, least_side: int, digests: dict[str, str]) -> dict[str, Any]:
    """The content of ``configs/metadata.json``; ``digests`` holds the SHA-256 of each other file of the bundle."""
    own = isinstance(wanted.network, GeSeNet)
    name = LABELS.get(wanted.name, wanted.name)
    stated = version("medfuse")
    return {
        "schema": SCHEMA,
        "version": stated,
        "changelog": {stated: f"exported by medfuse {stated}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {
            package: _installed(package) for package in ("medfuse", "nibabel", "pytorch-ignite", "fire")
        },
        "name": f"MRI fusion by {name}",
        "task": "Fuse MRI slices with the luma of aligned CT, PET or SPECT slices",
        "description": (
            f"{name} takes an MRI slice and the luma of its CT, PET or SPECT slice, both in [0, 1], and gives the luma "
            f"of the fused slice. {DISCLAIMER}"
        ),
        "authors": "the medfuse developers" if is_default(wanted) or wanted.own_function else "not stated",
        "copyright": "see LICENSE",
        "data_source": "see docs/data_license.txt",
        "data_type": "8-bit pictures or NIfTI",
        "image_classes": "MRI and partner luma, in [0, 1]",
        "pred_classes": "luma of the fused slice, in [0, 1]",
        "intended_use": DISCLAIMER,
        "references": [PAPER] if own else [],
        "network_data_format": {
            "inputs": {"image": _tensor(size, least_side, {"0": "MRI", "1": "partner luma"})},
            "outputs": {"pred": _tensor(size, least_side, {"0": "fused luma"})},
        },
        "medfuse": wanted.facts() | {"sha256": digests},
    }


def inference(wanted: Exportable, learnt: bool) -> dict[str, Any]:
    """The content of ``configs/inference.json``; ``learnt`` says whether there are weights to load."""
    load = {
        "_target_": "CheckpointLoader",
        "load_path": "@ckpt_path",
        "load_dict": {"model": "@network"},
        "map_location": "@device",
        "strict": True,
    }
    return {
        "bundle_root": ".",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "ckpt_path": f"{ROOT}{CHECKPOINT}'",
        "dataset_dir": f"{ROOT}data'",
        "output_dir": f"{ROOT}eval'",
        "datalist": {"_target_": "medfuse.export.list_pairs", "folder": "@dataset_dir"},
        "network_def": _network(wanted),
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": [{"_target_": "medfuse.export.LoadPair"}]},
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": {"_target_": "medfuse.export.SliceBySlice"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "medfuse.export.SaveFused", "output_dir": "@output_dir"}],
        },
        "handlers": [load] if learnt else [],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }


def _network(wanted: Exportable) -> dict[str, Any]:
    if isinstance(wanted.network, GeSeNet):
        return {
            "_target_": "medfuse.export.StackedGeSeNet",
            "parts": asdict(wanted.network.parts),
            "widths": asdict(wanted.network.widths),
        }
    return {"_target_": "medfuse.export.StackedProgram", "path": f"{ROOT}{PROGRAM}'", "device": "@device"}


def _tensor(size: Size | None, least_side: int, channels: dict[str, str]) -> dict[str, Any]:
    side = "*" if least_side == 1 else f"{MULTIPLE}*n"
    return {
        "type": "image",
        "format": "magnitude",
        "modality": "MR with CT, PT or NM",
        "num_channels": len(channels),
        "spatial_shape": [side, side] if size is None else list(size),
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": channels,
    }


def _installed(package: str) -> str:
    """The version that is installed here, or the oldest that is known to run a bundle."""
    try:
        return version(package)
    except PackageNotFoundError:
        return OLDEST[package]


OLDEST = {"pytorch-ignite": "0.4.11", "fire": "0.5"}
"""Of packages that running a bundle needs, and writing it does not."""
