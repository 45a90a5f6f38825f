"""Fuse two NIfTI volumes by the ``medfuse`` command, and say where the results lie or why there are none."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MedFuseLib.environment import Environment
from MedFuseLib.process import Ended, Runner, Tell, clean_environment

MODALITIES = {"PET": "PET", "CT": "CT", "SPECT": "SPECT"}
"""What a partner may be, as people and as the command call it."""

ALIGNMENTS = ("auto", "header", "rigid", "affine", "deformable")

NOT_ALIGNED = 4
"""The command's exit code where the pictures do not confirm the alignment."""


class NotFusedError(RuntimeError):
    """The volumes were not fused; the message is the command's own sentence.

    Parameters
    ----------
    message
        What the command says.
    can_force
        Whether it would go on with `Fusion.force`.
    """

    def __init__(self, message: str, can_force: bool = False) -> None:
        super().__init__(message)
        self.can_force = can_force


@dataclass(frozen=True)
class Fusion:
    """What is to be fused, and how.

    Parameters
    ----------
    mri, partner
        NIfTI files, each in its own world (RAS+ mm, as NIfTI has it).
    modality
        One of `MODALITIES`.
    out
        Folder for the results; absent or empty.
    align
        One of `ALIGNMENTS`.
    window, palette
        As `medfuse fuse --help` explains; empty for its defaults.
    method
        What fuses.
    force
        Go on where the pictures do not confirm the alignment.
    """

    mri: Path
    partner: Path
    modality: str
    out: Path
    align: str = "auto"
    window: str = ""
    palette: str = ""
    method: str = "gesenet"
    force: bool = False

    def arguments(self) -> list[str]:
        """The arguments of the command."""
        chosen = {"--window": self.window, "--palette": self.palette}
        return [
            "fuse",
            "--modality",
            MODALITIES[self.modality],
            "--out",
            str(self.out),
            "--format",
            "nifti",
            "--with-partner",
            "--align",
            self.align,
            "--method",
            self.method,
            *(f"{option}={value.strip()}" for option, value in chosen.items() if value.strip()),
            *(["--force"] if self.force else []),
            "--json",
            "--",
            str(self.mri),
            str(self.partner),
        ]


@dataclass(frozen=True)
class Fused:
    """What was made.

    Parameters
    ----------
    volume
        NIfTI file on the MRI's grid: RGB, or grey for CT.
    transform
        ITK transform file from the MRI's world to the partner's, LPS mm: as resampling has it. Slicer reads such a file
        as a transform *from* parent, so that the partner is put under it, and comes to lie on the MRI.
    verdict
        How the partner was aligned, and whether the pictures confirm it.
    is_confirmed
        Whether they do.
    """

    volume: Path
    transform: Path
    verdict: str
    is_confirmed: bool


def fuse(run: Runner, environment: Environment, fusion: Fusion, tell: Tell | None = None) -> Fused:
    """Run the command to its end.

    Raises
    ------
    NotReadyError
        If medfuse is not installed there.
    NotFusedError
        If the volumes were not fused.
    """
    environment.require_ready()
    try:
        ended = run([str(environment.command), *fusion.arguments()], clean_environment(), tell)
    except OSError as error:
        raise NotFusedError(f"{environment.command} cannot be started: {error.strerror}.") from error
    told = _told(ended)
    if ended.code != 0 or "error" in told:
        raise NotFusedError(_sentence(told, ended), can_force=ended.code == NOT_ALIGNED)
    transform = told.get("map") or told.get("deformation")
    if not told.get("nifti") or not transform:
        raise NotFusedError("medfuse says nothing of its results; is the version in the environment an older one?")
    verdict = told["provenance"]["registration"].get("verdict")
    return Fused(Path(told["nifti"]), Path(transform), str(told["verdict"]), verdict == "aligned")


def _told(ended: Ended) -> dict[str, Any]:
    """The JSON object that the command prints; empty where it printed none."""
    try:
        told = json.loads(ended.output)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _sentence(told: dict[str, Any], ended: Ended) -> str:
    """Why there are no results: the command's own sentence, or the last line that it said."""
    said = told.get("error")
    if isinstance(said, dict) and said.get("message"):
        return str(said["message"])
    lines = [line for line in ended.errors.splitlines() if line.strip()]
    return lines[-1] if lines else f"medfuse ended with exit code {ended.code} and said nothing."
