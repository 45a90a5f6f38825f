"""Read and write the folder of a training run; refuse one that holds what no such run wrote."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from medfuse.errors import TrainingError
from medfuse.gesenet.training.config import TrainingConfig

MAY_CHANGE = {"out", "pairs", "start", "threads", "device", "patience"}
"""Settings that a resumed run may have other than before."""


class RunFolder:
    """Checkpoint, log, weights and resolved settings of one training run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        """Everything that a resumed run needs."""
        self.log = path / "log.jsonl"
        """One JSON object a line and validation."""
        self.best_weights = path / "best.safetensors"
        """The weights with the lowest validation loss so far."""
        self.config = path / "config.yaml"
        """The resolved settings."""

    def rows(self) -> list[dict[str, float]]:
        """Read the log."""
        try:
            lines = self.log.read_text().splitlines() if self.log.exists() else []
            rows = [json.loads(line) for line in lines]
            if not all(isinstance(row, dict) and "step" in row for row in rows):
                raise ValueError
        except (ValueError, RecursionError):
            raise TrainingError(f"{self.log} is no log of a training; move it away, or give another folder.") from None
        return rows

    def open(self, config: TrainingConfig, device: torch.device) -> dict[str, Any] | None:
        """Make the folder ready for a run of these settings.

        Returns
        -------
        dict or None
            The state that the run left there when it was cut; None where it starts.

        Raises
        ------
        TrainingError
            If the folder cannot be made, or holds what another run or somebody else wrote.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"the folder {self.path} for the results cannot be made: {error.strerror}.") from None
        state = self._read(config, device) if self.checkpoint.exists() else None
        settings = config.to_yaml()
        if state is None:
            others = [each.name for each in (self.config, self.log, self.best_weights) if each.exists()]
            if others and not (self.config.exists() and self.config.read_bytes() == settings.encode()):
                raise TrainingError(
                    f"{self.path} holds {' and '.join(others)}, which no run with these settings wrote; nothing is "
                    "replaced. Give another folder."
                )
            self.log.unlink(missing_ok=True)  # of this run, cut before its first checkpoint
        self.rows()
        self.config.write_text(settings)
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint, at once or not at all."""
        beside = self.checkpoint.with_suffix(".new")
        torch.save(state, beside)
        beside.replace(self.checkpoint)

    def _read(self, config: TrainingConfig, device: torch.device) -> dict[str, Any]:
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location=device, weights_only=True)
            # Settings that came later than the checkpoint were then as they are by default.
            usual, now = (json.loads(json.dumps(asdict(each))) for each in (TrainingConfig(), config))
            before = usual | json.loads(state["config"])
        except Exception as error:  # whatever torch meets in bytes that are no checkpoint
            raise TrainingError(
                f"{self.checkpoint} is no readable checkpoint ({type(error).__name__}); give another folder, or delete "
                "what is in this one to start again."
            ) from None
        changed = [name for name in now if name not in MAY_CHANGE and before[name] != now[name]]
        if changed:
            raise TrainingError(
                f"{self.path} holds a checkpoint of a run with other settings ({', '.join(changed)}); give another "
                "folder, or the same settings to resume it."
            )
        return state
