"""Train GeSeNet on picture pairs and whole studies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from medfuse.dicom.palettes import palette_table
from medfuse.errors import TrainingError
from medfuse.gesenet.training.config import TrainingConfig
from medfuse.gesenet.training.dataset import Pair, read_pairs
from medfuse.gesenet.training.run_folder import RunFolder
from medfuse.gesenet.training.trainer import Trainer
from medfuse.intensity import Window
from medfuse.intensity.colour import colourise
from medfuse.load_study import load, require_pair
from medfuse.pipeline.prepare import prepare_pair
from medfuse.pipeline.simulated.atlas_pairs import atlas_pairs
from medfuse.pipeline.simulated.phantom_pairs import simulated_pairs
from medfuse.pipeline.steps import show_something
from medfuse.registration import Align
from medfuse.report import figures
from medfuse.runtime.progress import Progress
from medfuse.runtime.torch_settings import training_settings
from medfuse.volume import MRI, PALETTES, PARTNERS, TRAITS, meta_of

STUDY_SETTINGS = {"mri", "partner", "case", "modality", "window", "palette", "align"}


@training_settings()
def train(config: TrainingConfig, *, progress: Progress | None = None) -> Path:
    """Train GeSeNet on picture pairs, study pairs, or both.

    Parameters
    ----------
    config
        The settings. A run that was cut short goes on where its checkpoint is.
    progress
        Called with the steps ``studies``, ``pretrain`` and ``train``.

    Returns
    -------
    Path
        The best weights, for ``medfuse.fuse(..., weights=...)``. Checkpoint, log, curves and the resolved configuration
        lie beside them.

    Raises
    ------
    TrainingError
        If settings, pictures or patients do not fit, or another process trains in the folder.
    ExportError
        If a file cannot be written. Those there are whole, and the run resumes once there is space.
    MedfuseError
        If a study cannot be read or aligned.
    """
    if not config.out:
        raise TrainingError("expected a folder for the results; set out (or --out).")
    pairs = read_pairs(Path(config.pairs)) if config.pairs else []
    for number, study in enumerate(config.studies):
        pairs += study_pairs(study)
        if progress:
            progress("studies", (number + 1) / len(config.studies))
    if config.simulated_heads:
        pairs += simulated_pairs(config.simulated_heads, config.seed)
    if config.atlas_heads:
        pairs += atlas_pairs(config.atlas_heads, config.seed)
    if not pairs:
        raise TrainingError("expected picture pairs or studies to learn from; set pairs, studies or both.")
    folder = RunFolder(Path(config.out))
    Trainer(config, pairs, progress, lambda rows: folder.write_curves(figures.training_curves(rows))).run()
    return folder.best_weights


def study_pairs(study: Mapping[str, Any]) -> Iterator[Pair]:
    """Align one study pair as `medfuse.fuse` does, and yield its slices as training pairs.

    Parameters
    ----------
    study
        ``mri`` and ``partner`` are DICOM folders or NIfTI files and ``case`` is a name of your own for the patient; for
        NIfTI, ``modality`` is the partner's. ``window``, ``palette`` and ``align`` are those of `medfuse.fuse`.

    Yields
    ------
    Pair
        (1, H, W) float32 in [0, 1], one for each slice that is not empty; its colours 8 bit.
    """
    if not isinstance(study, Mapping) or not {"mri", "partner", "case"} <= study.keys() <= STUDY_SETTINGS:
        raise TrainingError(
            f"each of studies must have mri, partner and case, and may have "
            f"{', '.join(sorted(STUDY_SETTINGS - {'mri', 'partner', 'case'}))}."
        )
    _require_known(study)
    mri = load(study["mri"], MRI)
    partner = load(study["partner"], study.get("modality", PARTNERS))
    require_pair(mri, partner)
    chosen = {name: study[name] for name in ("align", "window", "palette") if name in study}
    if isinstance(chosen.get("window"), list | tuple):
        chosen["window"] = Window(*chosen["window"])
    prepared, _ = prepare_pair(mri, partner, **chosen)
    task = f"MRI-{TRAITS[meta_of(partner)['modality']].label}"
    for pairs in prepared.each():
        if show_something(pairs.mri, pairs.luma):
            colours = None
            if prepared.palette:
                shown = colourise(pairs.uptake[0], palette_table(prepared.palette))
                colours = (shown * 255).round().byte()
            yield Pair(task, f"{task}/{study['case']}", pairs.mri[0], pairs.luma[0], colours=colours)


def _require_known(study: Mapping[str, Any]) -> None:
    """Raise `TrainingError` for values that `medfuse.fuse` would not take."""
    for name in ("mri", "partner", "case"):
        if not isinstance(study[name], str | Path):
            raise TrainingError(f"{name} of a study must be text; found {study[name]!r}.")
    if (way := study.get("align", "auto")) not in get_args(Align):
        raise TrainingError(f"align of a study must be one of {', '.join(get_args(Align))}; found {way!r}.")
    if (palette := study.get("palette")) is not None and palette not in PALETTES:
        raise TrainingError(f"palette of a study must be one of {', '.join(PALETTES)}; found {palette!r}.")
    if not isinstance(study.get("window"), str | list | tuple | None):
        raise TrainingError(f"window of a study must be a name or [lowest, highest]; found {study['window']!r}.")
