"""Read and write the folder of a training run; refuse one that holds what no such run wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from medfuse.errors import TrainingError
from medfuse.gesenet.training.config import TrainingConfig
from medfuse.gesenet.weights import DEFAULT
from medfuse.runtime.json_text import json_text
from medfuse.runtime.output.atomic_output import atomic_file
from medfuse.runtime.output.file_lock import FileLock
from medfuse.runtime.output.own_results import input_among

MAY_CHANGE = {"out", "pairs", "start", "threads", "device", "patience"}
"""Settings that a resumed run may have other than before."""


Row = Mapping[str, float]
"""One line of the log: the step, and figures by their names."""


class RunFolder:
    """Checkpoint, log, weights, curves and resolved settings of one training run.

    Each file is replaced at once or not at all. The checkpoint holds the lines of the log up to its step, and the log
    is written after it: a run that is cut, wherever, resumes at its checkpoint, and its log never knows of more.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        """Everything that a resumed run needs."""
        self.log = path / "log.jsonl"
        """One JSON object a line and validation."""
        self.best_weights = path / "best.safetensors"
        """The weights with the lowest validation loss so far."""
        self.curves = path / "curves.png"
        """The log, drawn."""
        self.config = path / "config.yaml"
        """The resolved settings."""

    def rows(self) -> list[dict[str, float]]:
        """Read the log; what is no finite number is null there, and NaN here."""
        try:
            lines = self.log.read_text().splitlines() if self.log.exists() else []
            rows = [json.loads(line) for line in lines]
            if not all(isinstance(row, dict) and isinstance(row.get("step"), int) for row in rows):
                raise ValueError
        except (ValueError, RecursionError):
            raise TrainingError(f"{self.log} is no log of a training; move it away, or give another folder.") from None
        return [{name: math.nan if value is None else value for name, value in row.items()} for row in rows]

    def open(self, config: TrainingConfig, device: torch.device) -> dict[str, Any] | None:
        """Make the folder ready for a run of these settings.

        Returns
        -------
        dict or None
            The state that the run left there when it was cut; None where it starts.

        Raises
        ------
        TrainingError
            If the folder cannot be made, holds what another run or somebody else wrote, or the weights to start from.
        ExportError
            If log or settings cannot be written.
        """
        starts = [Path(each) for each in (config.start, *config.averaged) if each not in ("", DEFAULT)]
        if input_among([self.best_weights, self.checkpoint], {"start": starts}) is not None:
            raise TrainingError(
                f"{self.path} holds the weights to start from, which would be replaced; move them away."
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"the folder {self.path} for the results cannot be made: {error.strerror}.") from None
        state = self._read(config, device) if self.checkpoint.exists() else None
        settings = config.to_yaml()
        if state is None:
            every = (self.config, self.log, self.best_weights, self.curves)
            others = [each.name for each in every if each.exists()]
            if others and not (self.config.exists() and self.config.read_bytes() == settings.encode()):
                raise TrainingError(
                    f"{self.path} holds {' and '.join(others)}, which no run with these settings wrote; nothing is "
                    "replaced. Give another folder."
                )
            self.log.unlink(missing_ok=True)  # of this run, cut before its first checkpoint
        logged = self.rows()
        if state is not None:
            # Checkpoints of before hold no lines.
            state.setdefault("rows", [row for row in logged if row["step"] <= state.get("step", 0)])
            if state["rows"] != logged:
                self.write_log(state["rows"])
        with atomic_file(self.config, overwrite=True) as temporary:
            temporary.write_text(settings)
        return state

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training here; `TrainingError` where one does."""
        lock = FileLock.taken(self.path / ".lock", create=True)
        if lock is None:
            raise TrainingError(f"another process trains in {self.path}; wait for it, or give another folder.")
        with lock:
            try:
                yield
            finally:
                lock.remove()

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint."""
        content = BytesIO()
        torch.save(dict(state), content)
        with atomic_file(self.checkpoint, overwrite=True) as temporary:
            temporary.write_bytes(content.getbuffer())

    def write_log(self, rows: Sequence[Row]) -> None:
        """Replace the log."""
        with atomic_file(self.log, overwrite=True) as temporary:
            temporary.write_text("".join(json_text(row) + "\n" for row in rows))

    def write_curves(self, picture: bytes) -> None:
        """Replace the drawing of the log, which is a PNG."""
        with atomic_file(self.curves, overwrite=True) as temporary:
            temporary.write_bytes(picture)

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
