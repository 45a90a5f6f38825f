"""Read and check the settings of a training run: one flat record for YAML file, flags and weights; needs no PyTorch."""

from __future__ import annotations

import os
import reprlib
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from medfuse.errors import TrainingError, did_you_mean
from medfuse.gesenet.architecture import Parts
from medfuse.gesenet.weights import DEFAULT


@dataclass(frozen=True)
class LossWeights:
    """What each term counts; 0 leaves it out.

    In the paper's letters: γ is ``gradient`` (over ``content``), α is ``ssim``, β is ``semantic`` and δ ``subsidiary``.
    ``complement``, ``preservation``, ``headroom`` and ``mask`` are not in the paper's sum.
    """

    content: float = 5.0
    gradient: float = 7.0
    ssim: float = 0.6
    complement: float = 0.2
    preservation: float = 0.0
    headroom: float = 0.0
    semantic: float = 0.3
    subsidiary: float = 0.5
    lesion: float = 0.0
    mask: float = 0.3


RENAMED = {
    "drawn_twice": "oversampled_tasks",
    "mri_must_exceed": "mri_gradient_margin",
    "room_from": "headroom_from",
    "room_weight": "headroom_weight",
    "compact": "",
}
"""Settings by the names that they had before, still taken for one release; empty where a setting has gone."""

OF_A_TASK = {
    *(f"{term}_weight" for term in ("content", "gradient", "ssim", "complement", "preservation", "headroom")),
    *("mri_gradient_margin", "mri_under_bright", "partner_under_bright", "headroom_from"),
}
"""Settings that a task may have of its own: those by which the loss looks at pictures."""


CHOICES = {
    "precision": ("auto", "float32", "bfloat16"),
    "stored_precision": ("float32", "float16"),
    "content_target": ("brighter", "both"),
    "gradient_form": ("vectors", "magnitudes"),
}
"""What each setting that is one of several words may be."""

PRUNED_BY = 0.5
"""Share of the steps after which all channels have gone that are to go: then time is left to make up for them."""

LONGEST_TEXT = 4096
"""Bytes of a text; no path is longer."""

LEAST_PATCH = 16
"""Pixels: SSIM looks through a window of 11."""

OF_PATCHES = ("air_share", "hot_share", "lesion_share", "varied_share")
OF_STEPS = ("hard_share", "settled_share", "float32_share", "average_share")

COUNT, SHARE, POSITIVE, ANY = (1, 10**9), (0.0, 1.0), (1e-12, 1e6), (0.0, 1e6)

RANGES = {
    **dict.fromkeys(("steps", "batch_pixels", "validate_every", "semantic_every"), COUNT),
    **dict.fromkeys(("semantic_pretraining", "patience", "threads"), (0, 10**9)),
    "warm_up": (0, 10**9),
    **dict.fromkeys(("simulated_heads", "atlas_heads"), (0, 1000)),
    "fold": (0, 2),
    "seed": (0, 2**63 - 1),
    "headroom_from": (0.0, 0.99),
    **dict.fromkeys((*OF_PATCHES, *OF_STEPS, "principal_share"), SHARE),
    **dict.fromkeys(("validate_share", "kept_share"), (1e-6, 1.0)),
    **dict.fromkeys(("first_temperature", "last_temperature"), POSITIVE),
    **dict.fromkeys(("learning_rate", "final_learning_rate", "semantic_learning_rate", "weight_decay"), ANY),
    **dict.fromkeys(("mask_speed", "clip_norm"), ANY),
    **dict.fromkeys(("mri_gradient_margin", "mri_under_bright", "partner_under_bright"), ANY),
    **{f"{each.name}_weight": ANY for each in fields(LossWeights)},
}
"""Between what each setting that is a number must lie."""


def setting(default: Any, meaning: str) -> Any:
    """Declare a setting with its default and what it means; the command's help prints the meaning."""
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class TrainingConfig:
    """The settings; each one's meaning is in its metadata and, lists of mappings aside, in ``medfuse train --help``."""

    out: str = setting("", "folder for weights, checkpoint, log and the resolved configuration")
    pairs: str = setting("", "CSV file with the columns split, task, case, mri, partner (pictures beside it)")
    studies: tuple[dict[str, str], ...] = setting((), "own study pairs: mri, partner, case and, for NIfTI, modality")
    simulated_heads: int = setting(0, "digital heads to learn from beside the pairs, one study of each partner")
    atlas_heads: int = setting(0, "heads deformed from a brain atlas, a PET and a SPECT of each (needs medfuse[atlas])")
    validation_cases: tuple[str, ...] = setting((), "patients held out to choose the best weights, as TASK/CASE")
    fold: int = setting(0, "hold out one of two halves of the patients instead, 1 or 2; 0 holds out none")
    start: str = setting("", "weights to start from: default, or a file; else the network starts untrained")
    averaged: tuple[str, ...] = setting((), "weights whose mean to start from instead; a file named twice counts twice")
    steps: int = setting(26_000, "batches that the fusion network learns from")
    patch_sizes: tuple[int, ...] = setting((64, 64, 96, 128), "patch sizes; each batch has one of them, drawn evenly")
    batch_pixels: int = setting(32_768, "pixels a batch; as many patches as fit")
    air_share: float = setting(0.05, "share of patches that may be air")
    hot_share: float = setting(
        0.0, "share of patches in which one source gets a hot blob over bright tissue of the other"
    )
    lesion_share: float = setting(0.0, "share of patches that are fused a second time with a lesion in one source")
    varied_share: float = setting(0.5, "share of patches whose gain and gamma are varied")
    turned: bool = setting(True, "patches are turned and mirrored by chance")
    oversampled_tasks: tuple[str, ...] = setting((), "tasks drawn twice as often as others; else all are drawn alike")
    coloured: bool = setting(True, "compare fused patches in the partner's colours, cut to what a screen shows")
    learning_rate: float = setting(1e-3, "first learning rate; it falls along a cosine")
    final_learning_rate: float = setting(1e-5, "last learning rate")
    warm_up: int = setting(200, "steps in which learning rates rise, a twentieth of all at most")
    clip_norm: float = setting(1.0, "longest gradient that is not shortened; 0 shortens none")
    weight_decay: float = setting(1e-5, "of the fusion network; see decay_masks")
    mask_speed: float = setting(10.0, "factor on the learning rate of the channel masks' logits")
    decay_masks: bool = setting(False, "the channel masks' logits decay too")
    first_temperature: float = setting(1.0, "softness of the couple masks at first")
    last_temperature: float = setting(0.4, "softness of the couple masks before they turn hard")
    hard_share: float = setting(0.6, "last share of the steps, in which masks are hard and without noise")
    settled_share: float = setting(0.0, "last share of the steps, in which the channel masks learn no more")
    learn_channel_masks: bool = setting(True, "channel masks learn too; else they stay as they start")
    float32_share: float = setting(0.2, "last share of the steps, in which arithmetic is float32 in any case")
    average_share: float = setting(0.0, "last share of the steps, whose mean weights are kept; 0 averages none")
    stored_precision: str = setting("float32", "of the weights file: float32 or float16")
    content_weight: float = setting(LossWeights.content, "content loss")
    content_target: str = setting("brighter", "what content is compared with: the brighter source, or both")
    gradient_weight: float = setting(LossWeights.gradient, "gradient loss, γ in the paper")
    gradient_form: str = setting("vectors", "gradients are compared as vectors or as magnitudes, Eq. 12 in the paper")
    # The MRI has texture everywhere, which would else cover the few soft edges of the partner.
    mri_gradient_margin: float = setting(1.3, "factor by which the MRI's gradient must be stronger to be followed")
    ssim_weight: float = setting(LossWeights.ssim, "SSIM loss, α in the paper")
    complement_weight: float = setting(LossWeights.complement, "complement loss")
    preservation_weight: float = setting(LossWeights.preservation, "edge preservation loss")
    headroom_weight: float = setting(
        LossWeights.headroom, "headroom loss: headroom below white where both sources are bright"
    )
    headroom_from: float = setting(0.85, "local mean of the brighter source from which headroom counts")
    # Edges under the bright part of the other source are most likely to be covered.
    mri_under_bright: float = setting(1.0, "how much more the MRI's edges under a bright partner count in it")
    partner_under_bright: float = setting(1.0, "how much more the partner's edges under bright MRI count in it")
    for_tasks: tuple[dict[str, Any], ...] = setting((), "tasks, each with loss settings of its own")
    semantic_weight: float = setting(LossWeights.semantic, "semantic loss, β in the paper")
    subsidiary_weight: float = setting(LossWeights.subsidiary, "subsidiary head in the semantic loss, δ in the paper")
    lesion_weight: float = setting(
        LossWeights.lesion, "lesion loss: what the fused patch does not keep of a lesion's contrast"
    )
    mask_weight: float = setting(LossWeights.mask, "penalty on couple masks that do not follow the sources' detail")
    principal_share: float = setting(0.25, "share of the channels that may be principal without a penalty")
    kept_share: float = setting(1.0, "share of the channels of E, M, R and decoder that are left in the end")
    semantic_pretraining: int = setting(400, "steps in which the semantic module first learns alone")
    semantic_every: int = setting(4, "the semantic module learns once in so many steps of the fusion network")
    semantic_learning_rate: float = setting(0.02, "of the semantic module (SGD, momentum 0.9, weight decay 5e-4)")
    edge: bool = setting(True, "the edge enhancement module E")
    region: bool = setting(True, "the region mask module M")
    refinement: bool = setting(True, "the global refinement module R")
    skip: bool = setting(True, "the skip connection S")
    swapped: bool = setting(False, "M before E")
    validate_every: int = setting(500, "steps between two lines of the log")
    validate_share: float = setting(0.34, "share of the held-out pictures that each validation looks at")
    patience: int = setting(0, "stop after so many validations without a better one; 0 never stops early")
    precision: str = setting("auto", "float32, bfloat16, or auto: bfloat16 where a GPU has it")
    seed: int = setting(20260101, "of everything random")
    threads: int = setting(0, "CPU threads; 0 leaves it to torch")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")

    def __post_init__(self) -> None:
        """Refuse what no training can have."""
        for name, (lowest, highest) in RANGES.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:  # NaN is in no range
                raise TrainingError(f"{name} must be from {lowest:g} to {highest:g}; found {shown(value)}.")
        if not self.patch_sizes or not all(type(size) is int and size >= LEAST_PATCH for size in self.patch_sizes):
            raise TrainingError(
                f"patch_sizes must be whole numbers from {LEAST_PATCH}; found {shown(self.patch_sizes)}."
            )
        if not all(isinstance(case, str) for case in self.validation_cases):
            raise TrainingError(f"validation_cases must be texts, TASK/CASE; found {shown(self.validation_cases)}.")
        if not all(isinstance(path, str) and path for path in self.averaged):
            raise TrainingError(f"averaged must be paths of weights; found {shown(self.averaged)}.")
        if self.averaged and self.start:
            raise TrainingError("training starts from start or from the mean of averaged; leave one of them empty.")
        for name, words in CHOICES.items():
            if getattr(self, name) not in words:
                raise TrainingError(f"{name} must be one of {', '.join(words)}; found {shown(getattr(self, name))}.")
        if self.fold and self.validation_cases:
            raise TrainingError("fold and validation_cases both say who is held out; leave one of them empty.")
        if self.settled_share > self.hard_share:
            raise TrainingError(
                f"channel masks settle where they are hard; settled_share must be at most hard_share, "
                f"{self.hard_share:g}; found {self.settled_share:g}."
            )
        if self.kept_share < 1 and self.average_share > 1 - PRUNED_BY:
            raise TrainingError(
                f"weights are averaged once channels have gone; with kept_share below 1, average_share must be at most "
                f"{1 - PRUNED_BY:g}; found {self.average_share:g}."
            )

    @classmethod
    def from_yaml(cls, path: Path, **flags: Any) -> TrainingConfig:
        """Read a YAML mapping of settings; flags that are not None go before it.

        Relative paths in the file start at the file's folder, so that it means the same from everywhere.

        Raises
        ------
        TrainingError
            If the file is none that `read_yaml` reads, names unknown settings, or a value has another type than its
            setting.
        """
        # Only here: the command's help lists the settings, and is to be quick.
        from medfuse.runtime.yaml_settings import read_yaml

        values = read_yaml(path, TrainingError, "steps: 20000")
        _resolve(values, path.parent)
        given = {name: value for name, value in flags.items() if value is not None}
        return cls.from_mapping(with_new_names(values) | given)

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> TrainingConfig:
        """Check names and types, and build the record; `TrainingError` says which setting is wrong."""
        values = with_new_names(values)
        defaults = {each.name: each.default for each in fields(cls)}
        unknown = values.keys() - defaults.keys()
        if unknown:
            raise TrainingError(
                f"unknown training settings: {', '.join(sorted(map(_named, unknown)))}; there are "
                f"{', '.join(defaults)}.{did_you_mean(min(map(_named, unknown)), defaults)}"
            )
        checked: dict[str, Any] = {name: _as_type_of(defaults[name], name, value) for name, value in values.items()}
        return cls(**checked)

    @property
    def parts(self) -> Parts:
        """The network's modules."""
        return Parts(**{each.name: getattr(self, each.name) for each in fields(Parts)})

    @property
    def loss_weights(self) -> LossWeights:
        """What each term of the loss counts."""
        return LossWeights(**{each.name: getattr(self, f"{each.name}_weight") for each in fields(LossWeights)})

    def for_task(self, task: str) -> TrainingConfig:
        """The settings with what is the task's own.

        Raises
        ------
        TrainingError
            If ``for_tasks`` holds anything but a task with settings that a task may have.
        """
        own: dict[str, Any] = {}
        for each in self.for_tasks:
            named = isinstance(each, dict) and isinstance(each.get("task"), str)
            if not named or not each.keys() <= {"task", *OF_A_TASK}:
                raise TrainingError(f"each of for_tasks must have a task, and may have {', '.join(sorted(OF_A_TASK))}.")
            if each["task"] == task:
                own |= {name: _as_type_of(0.0, name, value) for name, value in each.items() if name != "task"}
        return replace(self, **own)

    def to_yaml(self) -> str:
        """The resolved settings, in the form that `from_yaml` reads; paths are absolute, so the file may be moved."""
        from medfuse.runtime.yaml_settings import write_yaml

        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        _resolve(values, Path.cwd())
        return write_yaml(values)


def with_new_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, and those of tasks among them, by the names that they have now; warn of old ones."""
    named = {}
    for name, value in values.items():
        if name in RENAMED:
            now = f"is now {RENAMED[name]}" if RENAMED[name] else "is no setting any more, and is ignored"
            warnings.warn(f"the training setting {name} {now}.", FutureWarning, stacklevel=3)
        if name == "for_tasks" and isinstance(value, list | tuple):
            value = [with_new_names(each) if isinstance(each, Mapping) else each for each in value]
        new = RENAMED.get(name, name)
        if new != "":
            named[new] = value
    return named


def _resolve(values: dict[str, Any], folder: Path) -> None:
    """Let the relative paths among the settings start at the folder."""

    def resolved(path: object) -> object:
        return str(folder / path) if isinstance(path, str) and path not in ("", DEFAULT) else path

    if isinstance(values.get("averaged"), list):
        values["averaged"] = [resolved(path) for path in values["averaged"]]
    studies = values.get("studies")
    inside = [study for study in (studies if isinstance(studies, list | tuple) else ()) if isinstance(study, dict)]
    for mapping, names in [(values, ("pairs", "out", "start")), *((study, ("mri", "partner")) for study in inside)]:
        mapping |= {name: resolved(mapping[name]) for name in names if name in mapping}


def _as_type_of(default: object, name: str, value: object) -> object:
    if isinstance(default, tuple):
        if isinstance(value, list | tuple):
            return tuple(value)
    elif isinstance(default, float) and not isinstance(value, bool):
        # YAML 1.1 reads 1e-3 as text.
        try:
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            pass
    elif type(value) is type(default) and not (isinstance(value, str) and _is_no_path(value)):
        return value
    wanted = "a list" if isinstance(default, tuple) else f"like {default!r}"
    raise TrainingError(f"the setting {name} must be {wanted}; found {shown(value)}.")


def _is_no_path(text: str) -> bool:
    """Whether no system can hold a text as a path; no other setting needs more."""
    try:
        return "\0" in text or len(os.fsencode(text)) >= LONGEST_TEXT
    except UnicodeEncodeError:  # half of a surrogate pair
        return True


def shown(value: object) -> str:
    """A value of a length that people read, whatever stands in a file."""
    try:
        return reprlib.repr(list(value) if isinstance(value, tuple) else value)
    except ValueError:  # Python prints no whole number of thousands of digits
        return "a number of thousands of digits"


def _named(setting: object) -> str:
    """The name of a setting that there is not, of a length that people read."""
    return setting[:60] if isinstance(setting, str) else shown(setting)
