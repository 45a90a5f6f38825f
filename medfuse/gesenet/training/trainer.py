"""Train GeSeNet, and in turn with it the semantic module that classifies its results."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from medfuse.errors import TrainingError
from medfuse.gesenet.device import resolve_device
from medfuse.gesenet.loading import load_network, save_network
from medfuse.gesenet.masks import watch_masks
from medfuse.gesenet.network import GeSeNet
from medfuse.gesenet.training.compact import compacted
from medfuse.gesenet.training.config import TrainingConfig
from medfuse.gesenet.training.dataset import Pair, with_classes
from medfuse.gesenet.training.isolation import Isolation
from medfuse.gesenet.training.losses import channel_mask_loss, loss_by_task, semantic_loss, spatial_mask_loss
from medfuse.gesenet.training.patches import Batch, PatchSampler, whole_pairs
from medfuse.gesenet.training.pruning import Pruning
from medfuse.gesenet.training.run_folder import Row, RunFolder
from medfuse.gesenet.training.semantic import SemanticModule
from medfuse.intensity.colour import shown_luma
from medfuse.runtime.progress import Progress, silent

WARM_UP = 200
"""Steps over which the learning rates rise, in short runs a twentieth: the first gradients of random masks are wild."""

MASK_SPEED = 10.0
"""The channel masks' logits learn faster than the rest: at its pace they never leave their random start."""


class Trainer:
    """One training run: its state, its checkpoint and its log, all under ``config.out``.

    The caller's random numbers and threads stay as they are.

    Parameters
    ----------
    config
        The settings.
    pairs
        Pictures of all patients; those of ``config.validation_cases`` are held out.
    progress
        Called with the steps ``pretrain`` and ``train``.
    recorded
        Called with all lines of the log whenever the run has been saved, and first where it resumes.

    Raises
    ------
    TrainingError
        If no pair is left to train on, a held-out patient is not among the pairs, or the folder holds a checkpoint of
        other settings.
    """

    def __init__(
        self,
        config: TrainingConfig,
        pairs: Sequence[Pair],
        progress: Progress | None = None,
        recorded: Callable[[Sequence[Row]], None] | None = None,
    ) -> None:
        self.config = config
        self.progress = progress or silent
        self.recorded = recorded or (lambda rows: None)
        self.folder = RunFolder(Path(config.out))
        self.device = resolve_device(config.device)
        self.isolation = Isolation(config.seed, config.threads, self.device)
        absent = set(config.validation_cases) - {pair.case for pair in pairs}
        if absent:
            raise TrainingError(f"no pair is of the held-out patients {', '.join(sorted(absent))}.")
        if not config.coloured:
            pairs = [replace(pair, colours=None) for pair in pairs]
        self.training = [pair for pair in pairs if pair.case not in config.validation_cases]
        if not self.training:
            raise TrainingError("no pair is left to train on; hold out fewer patients.")
        held_out = [pair for pair in pairs if pair.case in config.validation_cases]
        self.validation = held_out[:: max(1, round(1 / config.validate_share))]
        if config.semantic_weight:
            self.training = with_classes(self.training, config.seed)
        self.sampler = PatchSampler(
            self.training,
            config.patch_sizes,
            config.batch_pixels,
            config.air_share,
            torch.Generator().manual_seed(config.seed),
            config.oversampled_tasks,
            config.hot_share,
        )
        self.origins: list[dict[str, str]] = []
        with self.isolation.entered():
            self.network = self._placed(self._first_network())
            self.semantic = self._placed(SemanticModule())
        self.pruning = Pruning(self.network, config.kept_share)
        self.loss = loss_by_task(config, sorted({pair.task for pair in pairs})).to(self.device)
        logits = [value for name, value in self.network.named_parameters() if name.endswith("channel_logits")]
        for each in logits:
            each.requires_grad_(config.learn_channel_masks)
        others = [value for name, value in self.network.named_parameters() if not name.endswith("channel_logits")]
        groups = (
            {"params": others, "weight_decay": config.weight_decay, "speed": 1.0},
            {"params": logits, "speed": MASK_SPEED},
        )
        self.optimizer = torch.optim.Adam(groups, config.learning_rate)
        self.semantic_optimizer = torch.optim.SGD(
            self.semantic.parameters(), config.semantic_learning_rate, momentum=0.9, weight_decay=5e-4
        )
        self.rows: list[Row] = []
        self.step, self.best, self.without_better = 0, math.inf, 0
        self.learners = {
            "network": self.network,
            "semantic": self.semantic,
            "optimizer": self.optimizer,
            "semantic_optimizer": self.semantic_optimizer,
        }
        state = self.folder.open(config, self.device)
        if state is not None:
            self._resume(state)

    def _first_network(self) -> GeSeNet:
        """The network as training starts with it: untrained, with the given weights, or with the mean of several."""
        config = self.config
        starts = config.averaged or ((config.start,) if config.start else ())
        if not starts:
            return GeSeNet(config.parts)
        networks = [load_network(start) for start in starts]
        for each in networks:
            if each.parts != config.parts:
                raise TrainingError(
                    f"the weights {each.origin['name']} to start from have other parts than the settings; set them "
                    f"alike: {each.parts}."
                )
            if each.widths != networks[0].widths:
                raise TrainingError(
                    f"weights to average must have the same numbers of channels; {networks[0].origin['name']} has "
                    f"{networks[0].widths}, {each.origin['name']} has {each.widths}. Average runs that went on from "
                    "the same weights."
                )
        self.origins = [dict(each.origin) for each in networks]
        first = networks[0].requires_grad_(True)
        if len(networks) > 1:
            states = [each.state_dict() for each in networks]
            first.load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
        return compacted(first)

    def _placed(self, module: nn.Module) -> Any:
        # Channels-last is faster, but not for float32 backwards on a CPU: 1.26 s instead of 0.89 s a batch of 20 480.
        full = self.device.type == "cpu" and self.config.precision != "bfloat16"
        # Its annotation is missing in torch.
        return cast("Any", module).to(
            self.device, memory_format=torch.contiguous_format if full else torch.channels_last
        )

    def run(self) -> None:
        """Train to the last step, or until validation stops improving."""
        config = self.config
        with self.folder.held(), self.isolation.entered():
            if self.rows:
                self.recorded(self.rows)
            if self.step == 0 and config.semantic_weight:
                self._pretrain()
            sums: dict[str, float] = {}
            since = self.step
            while self.step < config.steps and not 0 < config.patience <= self.without_better:
                for name, value in self._learn().items():
                    sums[name] = sums.get(name, 0.0) + float(value)
                self.step += 1
                self.progress("train", self.step / config.steps)
                if self.step % config.validate_every == 0 or self.step == config.steps:
                    self._record({f"train_{name}": value / (self.step - since) for name, value in sums.items()})
                    sums, since = {}, self.step

    def _pretrain(self) -> None:
        """Teach the semantic module on the brighter source, which is what the fused slice will roughly be."""
        for step in range(self.config.semantic_pretraining):
            batch = self.sampler.draw().to(self.device)
            self._learn_semantics(torch.maximum(batch.mri, batch.partner), batch.classes)
            self.progress("pretrain", (step + 1) / self.config.semantic_pretraining)

    def _learn(self) -> dict[str, Tensor]:
        """One step of the fusion network, and at its turn one of the semantic module."""
        config = self.config
        ramp = self._schedule()
        batch = self.sampler.draw().to(self.device)
        self.network.train()
        with self._autocast(), watch_masks(self.network) as masks:
            fused = self.network(batch.mri, batch.partner)
        fused = _as_shown(fused.float(), batch)
        total, terms = self.loss(fused, batch.mri, batch.partner, batch.tasks)
        if masks:
            work = torch.stack([watched.work_share() for watched in masks]).mean()
            sides = zip(masks, (batch.mri, batch.partner), (self.network.mri, self.network.partner), strict=True)
            penalties = [
                spatial_mask_loss(watched.logits.float(), source)
                + channel_mask_loss(branch.region.body.principal(), config.principal_share)
                for watched, source, branch in sides
            ]
            terms["mask"] = torch.stack(penalties).mean()
            total = total + ramp * config.mask_weight * terms["mask"]
            terms["work"] = work
        if config.semantic_weight:
            semantics = self._semantic_loss(fused, batch.classes, learning=False)
            total = total + config.semantic_weight * semantics
            terms["semantic"] = semantics.detach()
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        self.pruning.weigh()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.pruning.prune(self.step / config.steps)
        if config.semantic_weight and self.step % config.semantic_every == 0:
            self._learn_semantics(fused.detach(), batch.classes)
        return {name: term.detach() for name, term in {"total": total, **terms}.items()}

    def _learn_semantics(self, fused: Tensor, classes: Tensor) -> None:
        self.semantic_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self._semantic_loss(fused, classes, learning=True))
        self.semantic_optimizer.step()

    def _semantic_loss(self, fused: Tensor, classes: Tensor, *, learning: bool) -> Tensor:
        """What the semantic module misses in the fused patches; its own weights move only while it is learning."""
        with self._autocast():
            main, subsidiary = self.semantic.requires_grad_(learning)(fused)
        return semantic_loss(main.float(), subsidiary.float(), classes, self.config.subsidiary_weight)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Reduced precision where asked for, until the last steps."""
        wanted = self.config.precision == "bfloat16" or (
            self.config.precision == "auto" and self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        )
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=wanted and not self._in_last(self.config.float32_share)
        )

    def _in_last(self, share: float) -> bool:
        return self.step >= self.config.steps * (1 - share)

    def _schedule(self) -> float:
        """Set learning rates and mask temperature for this step; return how much of the mask penalty counts.

        The rate rises, then falls along a cosine. The temperature falls linearly until the masks turn hard. The penalty
        grows over the first tenth, so that the masked convolutions are worth something before they are restricted.
        """
        config = self.config
        progress = self.step / config.steps
        swing = (1 + math.cos(math.pi * progress)) / 2
        rate = config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * swing
        warm_up = max(1, min(WARM_UP, config.steps // 20))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["speed"] * min(1.0, (self.step + 1) / warm_up)
        cooled = min(1.0, progress / max(1e-9, 1 - config.hard_share))
        softness = config.first_temperature + (config.last_temperature - config.first_temperature) * cooled
        self.network.soften_masks(0.0 if self._in_last(config.hard_share) else softness)
        return min(1.0, 10 * progress)

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        self.network.eval()
        sums: dict[str, float] = {}
        for batch in (pair.to(self.device) for pair in whole_pairs(self.validation)):
            with watch_masks(self.network) as masks:
                fused = self.network(batch.mri, batch.partner)
            total, terms = self.loss(_as_shown(fused, batch), batch.mri, batch.partner, batch.tasks)
            if masks:
                terms["work"] = torch.stack([watched.work_share() for watched in masks]).mean()
            for name, value in {"total": total, **terms}.items():
                sums[f"validation_{name}"] = sums.get(f"validation_{name}", 0.0) + float(value) / len(self.validation)
        return sums

    def _record(self, figures: dict[str, float]) -> None:
        figures |= self._validate()
        row = {"step": self.step} | {name: round(value, 6) for name, value in figures.items()}
        score = figures.get("validation_total", figures["train_total"])
        if not math.isfinite(score):
            raise TrainingError(
                f"the loss is no number any more at step {self.step}: lower learning_rate or the losses' weights. What "
                f"was best before is in {self.folder.path}, if anything was."
            )
        self.without_better += 1
        if score < self.best:
            # Where channels have still to go, the next weights are better in any case.
            self.best, self.without_better = score if self.pruning.done else math.inf, 0
            self._save_weights(self.folder.best_weights, row)
        self.rows.append(row)
        self.folder.save(self._state())
        self.folder.write_log(self.rows)
        self.recorded(self.rows)

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "best": self.best,
            "without_better": self.without_better,
            "rows": self.rows,
            **{name: learner.state_dict() for name, learner in self.learners.items()},
            "pruning": self.pruning.worth,
            "sampler": self.sampler.generator.get_state(),
            "random": self.isolation.states(),
            "config": json.dumps(asdict(self.config)),
        }

    def _save_weights(self, path: Path, row: dict[str, float]) -> None:
        # Where this machine keeps its files, and whose studies they are, is nobody's business.
        names = {name: Path(getattr(self.config, name)).name for name in ("pairs", "start")}
        averaged = [Path(each).name for each in self.config.averaged]
        config = asdict(self.config) | names | {"averaged": averaged, "studies": len(self.config.studies)}
        config.pop("out")
        metadata = {
            "config": json.dumps(config),
            "started_from": json.dumps(self.origins),
            "training_cases": json.dumps(sorted({pair.case for pair in self.training})),
            "figures": json.dumps(row),
        }
        save_network(compacted(self.network), path, metadata)

    def _resume(self, state: dict[str, Any]) -> None:
        try:
            self.step, self.best, self.without_better = state["step"], state["best"], state["without_better"]
            self.rows = list(state["rows"])
            for name, learner in self.learners.items():
                learner.load_state_dict(state[name])
            for worth, before in zip(self.pruning.worth, state["pruning"], strict=True):
                worth.copy_(before)
            self.sampler.generator.set_state(state["sampler"].cpu())
            self.isolation.restore(state["random"])
        except (KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            raise TrainingError(
                f"{self.folder.checkpoint} does not hold the state of this network ({type(error).__name__}); give "
                "another folder."
            ) from None


def _as_shown(fused: Tensor, batch: Batch) -> Tensor:
    """(N, 1, H, W) as it is seen in the partner's colours."""
    return shown_luma(fused.movedim(1, 0), batch.tints.movedim(1, 0)).movedim(0, 1)
