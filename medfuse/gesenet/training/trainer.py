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
from medfuse.gesenet.architecture import Widths
from medfuse.gesenet.loading import save_network
from medfuse.gesenet.masks import watch_masks
from medfuse.gesenet.network import GeSeNet
from medfuse.gesenet.training import losses
from medfuse.gesenet.training.averaging import RunningMean
from medfuse.gesenet.training.compact import compacted, remaining
from medfuse.gesenet.training.config import TrainingConfig
from medfuse.gesenet.training.dataset import Pair, with_classes
from medfuse.gesenet.training.folds import held_out
from medfuse.gesenet.training.optimizers import channel_logits, narrowed, network_optimizer, semantic_optimizer
from medfuse.gesenet.training.patches import Batch, PatchSampler, whole_pairs
from medfuse.gesenet.training.pruning import Pruning
from medfuse.gesenet.training.run_folder import Row, RunFolder
from medfuse.gesenet.training.semantic import SemanticModule
from medfuse.gesenet.training.start import first_network
from medfuse.intensity.colour import shown_luma
from medfuse.runtime.device import resolve_device
from medfuse.runtime.isolation import Isolation
from medfuse.runtime.json_text import json_text
from medfuse.runtime.progress import Progress, told
from medfuse.runtime.torch_settings import training_settings


class Trainer:
    """One training run: its state, its checkpoint and its log, all under ``config.out``.

    The caller's random numbers, threads and settings of torch stay as they are, and make no difference.

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

    @training_settings()
    def __init__(
        self,
        config: TrainingConfig,
        pairs: Sequence[Pair],
        progress: Progress | None = None,
        recorded: Callable[[Sequence[Row]], None] | None = None,
    ) -> None:
        self.config = config
        self.progress = told(progress)
        self.recorded = recorded or (lambda rows: None)
        self.folder = RunFolder(Path(config.out))
        self.device = resolve_device(config.device)
        self.isolation = Isolation(config.seed, config.threads, self.device)
        if not config.coloured:
            pairs = [replace(pair, colours=None) for pair in pairs]
        aside = held_out(config, pairs)
        self.training = [pair for pair in pairs if pair.case not in aside]
        self.validation = [pair for pair in pairs if pair.case in aside][:: max(1, round(1 / config.validate_share))]
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
            lesion_share=config.lesion_share,
            varied_share=config.varied_share,
            turned=config.turned,
        )
        with self.isolation.entered():
            network, self.origins = first_network(config)
            self.network = self._placed(network)
            self.semantic = self._placed(SemanticModule())
        self.pruning = Pruning(self.network, config.kept_share)
        self.mean = RunningMean()
        self.loss = losses.loss_by_task(config, sorted({pair.task for pair in pairs})).to(self.device)
        self.optimizer = network_optimizer(self.network, config)
        self.semantic_optimizer = semantic_optimizer(self.semantic, config)
        self.rows: list[Row] = []
        self.step, self.best, self.without_better = 0, math.inf, 0
        state = self.folder.open(config, self.device)
        if state is not None:
            self._resume(state)

    @property
    def learners(self) -> dict[str, Any]:
        """What learns or adds up, by the names in the checkpoint."""
        return {
            "network": self.network,
            "semantic": self.semantic,
            "optimizer": self.optimizer,
            "semantic_optimizer": self.semantic_optimizer,
            "mean": self.mean,
        }

    def _placed(self, module: nn.Module) -> Any:
        # Channels-last is faster, but not for float32 backwards on a CPU: 1.26 s instead of 0.89 s a batch of 20 480.
        full = self.device.type == "cpu" and self.config.precision != "bfloat16"
        layout = torch.contiguous_format if full else torch.channels_last
        return cast("Any", module).to(self.device, memory_format=layout)  # its annotation is missing in torch

    @training_settings()
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
                was_done = self.pruning.done
                for name, value in self._learn().items():
                    sums[name] = sums.get(name, 0.0) + float(value)
                self.step += 1
                if self.step % config.validate_every == 0 or self.pruning.done != was_done:
                    self._leave_out()
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
        if batch.lesions is not None:
            terms["lesion"] = losses.lesion_loss(fused, batch.lesions)
            total = total + config.lesion_weight * terms["lesion"]
        if masks:
            work = torch.stack([watched.work_share() for watched in masks]).mean()
            sides = zip(masks, (batch.mri, batch.partner), (self.network.mri, self.network.partner), strict=True)
            penalties = [
                losses.spatial_mask_loss(watched.logits.float(), source)
                + losses.channel_mask_loss(branch.region.body.principal(), config.principal_share)
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
        if config.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), config.clip_norm)
        self.optimizer.step()
        self.pruning.prune(self.step / config.steps)
        if self._in_last(config.average_share):
            self.mean.add(self.network)
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
        return losses.semantic_loss(main.float(), subsidiary.float(), classes, self.config.subsidiary_weight)

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

        The rate rises, for the first gradients of random masks are wild, then falls along a cosine. The temperature
        falls linearly until the masks turn hard. The penalty grows over the first tenth, so that the masked
        convolutions are worth something before they are restricted.
        """
        config = self.config
        progress = self.step / config.steps
        swing = (1 + math.cos(math.pi * progress)) / 2
        rate = config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * swing
        warm_up = max(1, min(config.warm_up, config.steps // 20))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["speed"] * min(1.0, (self.step + 1) / warm_up)
        for logits in channel_logits(self.network):
            logits.requires_grad_(config.learn_channel_masks and not self._in_last(config.settled_share))
        cooled = min(1.0, progress / max(1e-9, 1 - config.hard_share))
        softness = config.first_temperature + (config.last_temperature - config.first_temperature) * cooled
        self.network.soften_masks(0.0 if self._in_last(config.hard_share) else softness)
        return min(1.0, 10 * progress)

    def _leave_out(self) -> None:
        """Cut channels that have gone out of the network, so that steps cost less; what was learnt of others stays."""
        left = remaining(self.network)
        if left.widths == self.network.widths:
            return
        wide, before = self.network, self.optimizer
        self.network = self._placed(compacted(wide, left))
        self.pruning = self.pruning.narrowed(self.network, left)
        self.optimizer = narrowed(before, wide, self.network, left, self.config)

    def _result(self) -> Any:
        """The network as it would be kept now: with the mean weights if any, rounded as they will be stored."""
        if not self.mean.count and self.config.stored_precision == "float32":
            return self.network.eval()
        network = self.mean.of(self.network)
        if self.config.stored_precision == "float16":
            network.half().float()
        return network.eval()

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        network = self._result()
        sums: dict[str, float] = {}
        for batch in (pair.to(self.device) for pair in whole_pairs(self.validation)):
            with watch_masks(network) as masks:
                fused = network(batch.mri, batch.partner)
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
            # Where channels have still to go, or no step of the mean is there, the next weights are better in any
            # case; and so are those of a longer mean where no patient is held out to compare them.
            comparable = not self.config.average_share or (self.mean.count > 0 and bool(self.validation))
            self.best, self.without_better = score if self.pruning.done and comparable else math.inf, 0
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
            "widths": asdict(self.network.widths),
            "pruning": self.pruning.worth,
            "pruned": self.pruning.done,
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
            "figures": json_text(row),
        }
        dtype = torch.float16 if self.config.stored_precision == "float16" else torch.float32
        save_network(compacted(self._result()), path, metadata, dtype)

    def _rebuild(self, widths: Widths) -> None:
        """Make everything as wide as a checkpoint's network, which then fills it."""
        if widths == self.network.widths:
            return
        with self.isolation.entered():
            self.network = self._placed(GeSeNet(self.config.parts, widths))
        self.pruning = Pruning(self.network, self.config.kept_share)
        self.optimizer = network_optimizer(self.network, self.config)

    def _resume(self, state: dict[str, Any]) -> None:
        try:
            self.step, self.best, self.without_better = state["step"], state["best"], state["without_better"]
            self.rows = list(state["rows"])
            self._rebuild(Widths(**state.get("widths", asdict(self.network.widths))))
            for name, learner in self.learners.items():
                # A checkpoint of before has no mean.
                learner.load_state_dict(state.get(name, learner.state_dict()) if name == "mean" else state[name])
            self.pruning.done = state.get("pruned", self.pruning.done)
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
