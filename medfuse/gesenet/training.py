"""Train GeSeNet from aligned 2-D picture pairs.

``python -m medfuse.gesenet.training CONFIG.yaml`` trains, logs, keeps checkpoints and resumes where it stopped. Every
setting is a field of `TrainingConfig`; the resolved configuration is saved inside the weights.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from medfuse.gesenet.losses import FusionLoss
from medfuse.gesenet.network import GeSeNet


@dataclass(frozen=True)
class TrainingConfig:
    """All settings of a training run.

    ``pairs`` is a CSV file with the columns split, task, case, slice, mri, partner (paths beside the file); rows with
    the split ``train`` are used. ``validation_cases`` names the held-out patients as ``TASK/CASE``.
    """

    pairs: str
    out: str
    validation_cases: tuple[str, ...] = ()
    steps: int = 12_000
    batch_size: int = 8
    patch_size: int = 64
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    weight_decay: float = 2e-4
    gradient_weight: float = 10.0
    ssim_weight: float = 0.5
    first_temperature: float = 1.0
    last_temperature: float = 0.4
    air_share: float = 0.05
    validate_every: int = 500
    seed: int = 20260101
    threads: int = 0
    device: str = "cpu"

    @classmethod
    def from_yaml(cls, path: Path) -> TrainingConfig:
        """Read a YAML mapping of field names to values; unknown names raise `ValueError`."""
        values = yaml.safe_load(path.read_text())
        if not isinstance(values, dict):
            raise ValueError(f"{path} must map settings to values; see TrainingConfig.")
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown training settings: {', '.join(sorted(unknown))}")
        values["validation_cases"] = tuple(values.get("validation_cases", ()))
        return cls(**values)


@dataclass(frozen=True)
class Pair:
    """One aligned picture pair; ``mri`` and ``partner`` are (1, H, W) uint8 luma."""

    task: str
    case: str
    mri: Tensor
    partner: Tensor


def read_luma(path: Path) -> Tensor:
    """Read a picture as (1, H, W) uint8; colour becomes BT.601 luma."""
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("L")))[None]


def read_pairs(index: Path) -> list[Pair]:
    """Read every pair whose split is ``train`` into memory."""
    with index.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == "train"]
    return [
        Pair(
            row["task"],
            f"{row['task']}/{row['case']}",
            read_luma(index.parent / row["mri"]),
            read_luma(index.parent / row["partner"]),
        )
        for row in rows
    ]


class PatchSampler:
    """Draw augmented patch batches, tasks balanced, tissue preferred over air."""

    def __init__(self, pairs: list[Pair], config: TrainingConfig, generator: torch.Generator) -> None:
        self.by_task = [[pair for pair in pairs if pair.task == task] for task in sorted({pair.task for pair in pairs})]
        self.config = config
        self.generator = generator

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return MRI and partner patches, each (batch, 1, patch, patch) float32 in [0, 1]."""
        patches = [self._patch(self.by_task[self._integer(len(self.by_task))]) for _ in range(self.config.batch_size)]
        mri, partner = (torch.stack(side) for side in zip(*patches, strict=True))
        return self._jitter(mri), self._jitter(partner)

    def _patch(self, pairs: list[Pair]) -> tuple[Tensor, Tensor]:
        pair = pairs[self._integer(len(pairs))]
        size = self.config.patch_size
        air_allowed = self._uniform() < self.config.air_share
        while True:
            top = self._integer(pair.mri.shape[-2] - size + 1)
            left = self._integer(pair.mri.shape[-1] - size + 1)
            window = (slice(None), slice(top, top + size), slice(left, left + size))
            mri, partner = pair.mri[window], pair.partner[window]
            if air_allowed or torch.maximum(mri, partner).float().mean() > 25:
                break
        turns, mirrored = self._integer(4), self._integer(2) == 1
        mri, partner = (torch.rot90(side, turns, (-2, -1)) for side in (mri, partner))
        if mirrored:
            mri, partner = mri.flip(-1), partner.flip(-1)
        return mri.float() / 255, partner.float() / 255

    def _jitter(self, batch: Tensor) -> Tensor:
        """Vary gain and gamma per patch: clinical volumes are not as evenly windowed as atlas pictures."""
        shape = (len(batch), 1, 1, 1)
        gain = 0.6 + 0.5 * torch.rand(shape, generator=self.generator)
        gamma = torch.exp(0.6 * (torch.rand(shape, generator=self.generator) - 0.5))
        return (batch.pow(gamma) * gain).clamp(0, 1)

    def _integer(self, below: int) -> int:
        return int(torch.randint(below, (), generator=self.generator))

    def _uniform(self) -> float:
        return float(torch.rand((), generator=self.generator))


def validation_batches(pairs: list[Pair]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every third validation pair whole, as (1, 1, H, W) float32 in [0, 1]."""
    for pair in pairs[::3]:
        yield pair.mri[None].float() / 255, pair.partner[None].float() / 255


class Trainer:
    """One training run: its state, its checkpoint and its log, all under ``config.out``."""

    def __init__(self, config: TrainingConfig) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.folder = Path(config.out)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.device = torch.device(config.device)
        pairs = read_pairs(Path(config.pairs))
        self.training = [pair for pair in pairs if pair.case not in config.validation_cases]
        self.validation = [pair for pair in pairs if pair.case in config.validation_cases]
        self.sampler = PatchSampler(self.training, config, torch.Generator().manual_seed(config.seed))
        self.network = cast("Any", GeSeNet()).to(self.device, memory_format=torch.channels_last)
        self.loss = FusionLoss(config.gradient_weight, config.ssim_weight).to(self.device)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        self.step = 0
        self.best = math.inf
        if self.checkpoint.exists():
            self._resume()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def run(self) -> None:
        """Train to the last step, validating and saving on the way."""
        autocast = torch.autocast(self.device.type, enabled=self.device.type == "cuda")
        bar = tqdm(total=self.config.steps, initial=self.step, disable=None, unit="step")
        sums: dict[str, float] = {}
        while self.step < self.config.steps:
            self._schedule(self.step / self.config.steps)
            mri, partner = (side.to(self.device) for side in self.sampler.draw())
            self.network.train()
            with autocast:
                fused = self.network(mri, partner)
            total, terms = self.loss(fused.float(), mri, partner)
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self.step += 1
            bar.update()
            for name, value in {"total": total.detach(), **terms}.items():
                sums[name] = sums.get(name, 0.0) + float(value)
            if self.step % self.config.validate_every == 0 or self.step == self.config.steps:
                count = (self.step - 1) % self.config.validate_every + 1
                self._record({f"train_{name}": value / count for name, value in sums.items()})
                sums = {}
        bar.close()

    def _schedule(self, progress: float) -> None:
        """Cosine learning rate; mask temperature falls linearly over the first two thirds, then stays."""
        config = self.config
        swing = (1 + math.cos(math.pi * progress)) / 2
        rate = config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * swing
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        cooled = min(1.0, 1.5 * progress)
        self.network.set_temperature(
            config.first_temperature + (config.last_temperature - config.first_temperature) * cooled
        )

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        self.network.eval()
        sums: dict[str, float] = {}
        batches = list(validation_batches(self.validation))
        for mri, partner in batches:
            mri, partner = mri.to(self.device), partner.to(self.device)
            total, terms = self.loss(self.network(mri, partner), mri, partner)
            for name, value in {"total": total, **terms}.items():
                sums[f"validation_{name}"] = sums.get(f"validation_{name}", 0.0) + float(value) / len(batches)
        return sums

    def _record(self, figures: dict[str, float]) -> None:
        figures |= self._validate()
        row = {"step": self.step} | {name: round(value, 6) for name, value in figures.items()}
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
        score = figures.get("validation_total", figures["train_total"])
        if score < self.best:
            self.best = score
            self._save_weights(self.folder / "best.safetensors", row)
        state = {
            "step": self.step,
            "best": self.best,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.generator.get_state(),
            "torch": torch.get_rng_state(),
        }
        beside = self.checkpoint.with_suffix(".new")
        torch.save(state, beside)
        beside.replace(self.checkpoint)

    def _save_weights(self, path: Path, row: dict[str, float]) -> None:
        # Where this machine keeps its files is nobody's business.
        config = asdict(self.config) | {"pairs": Path(self.config.pairs).name}
        config.pop("out")
        metadata = {
            "format": "medfuse GeSeNet 1",
            "config": json.dumps(config),
            "training_cases": json.dumps(sorted({pair.case for pair in self.training})),
            "figures": json.dumps(row),
        }
        tensors = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        save_file(tensors, path, metadata)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.step, self.best = state["step"], state["best"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.generator.set_state(state["sampler"].cpu())
        torch.set_rng_state(state["torch"].cpu())


def main() -> None:
    """Train as the configuration file says."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("config", type=Path, help="YAML file; see TrainingConfig for the settings")
    Trainer(TrainingConfig.from_yaml(parser.parse_args().config)).run()


if __name__ == "__main__":
    main()
