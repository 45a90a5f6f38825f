"""Sum up what a study's result depends on: input files, settings, weights and version."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from medfuse import nifti
from medfuse.cohort.running.request import Request
from medfuse.dicom.scanning.find_files import find_files
from medfuse.errors import SeriesError
from medfuse.gesenet.loading import weights_sha256
from medfuse.methods import load_method
from medfuse.methods.names import GESENET
from medfuse.nifti.header import header_file
from medfuse.nifti.pet_sidecar import sidecar_path
from medfuse.provenance import software
from medfuse.runtime.output.place import shown

BLOCK = 2**20


@dataclass
class Contents:
    """The contents of files by their SHA-256; those whose state on disk is known are not read again.

    Parameters
    ----------
    known
        By a digest of a file's path: its size, times and number on disk, and the SHA-256 of what it held then.
    seen
        The same of all files that were asked for. It holds no path, which might name a patient.
    """

    known: Mapping[str, Any] = field(default_factory=dict)
    seen: dict[str, list[Any]] = field(default_factory=dict)

    def sha256(self, path: Path) -> str:
        """The SHA-256 of a file's bytes."""
        try:
            key = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
            about = path.stat()
            state = [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]
            former = self.known.get(key)
            if isinstance(former, list) and former[:4] == state and len(former) == 5:
                digest = str(former[4])
            else:
                digest = file_sha256(path)
        except OSError as error:
            raise SeriesError(f"{shown(path)} cannot be read: {error.strerror}; check its permissions.") from None
        self.seen[key] = [*state, digest]
        return digest


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes; `OSError` where it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def input_files(paths: Iterable[str]) -> Iterator[Path]:
    """The files that are read where paths are given, sorted; a NIfTI file with what lies beside it and counts.

    Raises
    ------
    SeriesError
        If a path is not there.
    """
    for path in sorted(map(Path, paths)):
        if path.is_dir():
            yield from find_files(path).paths
        elif not path.exists():
            raise SeriesError(f"there is no file or folder {shown(path)}; check the path.")
        elif path.is_file():
            yield path
            if nifti.is_nifti(path):
                beside = {header_file(path), path.with_suffix(".img"), sidecar_path(path)} - {path}
                yield from sorted(each for each in beside if each.is_file())
        else:
            raise SeriesError(f"{shown(path)} is a pipe, a device or a socket; give a file or a folder.")


def study_digest(request: Request, contents: Contents) -> str:
    """The SHA-256 of all that decides what a study's result is.

    Raises
    ------
    SeriesError
        If an input is not there or cannot be read.
    """
    settings = request.effective
    align = Path(settings["align"])
    if align.is_absolute():
        settings["align"] = [contents.sha256(path) for path in input_files([str(align)])]
    sides = {"mri": (request.mri, request.mri_series), "partner": (request.partner, request.partner_series)}
    said = {
        # In the order of the contents: where files lie and how they are called changes no voxel.
        side: {"files": sorted(contents.sha256(path) for path in input_files(paths)), "series": series}
        for side, (paths, series) in sides.items()
    }
    for side, (paths, _) in sides.items():
        if not said[side]["files"]:
            raise SeriesError(f"{shown(paths[0])} holds no files; check the path.")
    whole = {
        **said,
        "labels": [request.subject, request.session, request.modality, request.tracer],
        "settings": settings,
        "learnt": _learnt(settings["method"], request.settings.weights),
        "software": software(),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


@cache
def _learnt(method: str, weights: str) -> str:
    """What tells a method's weights, or its version, from others; once for a process, which loads it once, too."""
    if method == GESENET:
        return weights_sha256(weights)
    found = load_method(method, device="cpu")
    return f"{found.version} {found.weights['sha256'] if found.weights else ''}"
