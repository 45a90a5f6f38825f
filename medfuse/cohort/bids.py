"""Find the series of subjects in a BIDS dataset of NIfTI files: by entities, sidecars and scans.tsv."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from medfuse import nifti
from medfuse.cohort.candidate import Candidate, Checked
from medfuse.cohort.cells import LABEL
from medfuse.cohort.sequences import contrast_of, corrected_of, kernel_of, reconstruction_of, tracer_of
from medfuse.cohort.series_facts import RESULT
from medfuse.errors import CohortError, MedfuseError
from medfuse.runtime.output.own_results import first_foreign
from medfuse.runtime.silence import silence
from medfuse.volume.modality import MRI, Modality

DESCRIPTION = "dataset_description.json"

FOLDERS: dict[str, Modality] = {"anat": MRI, "pet": "PT", "ct": "CT", "nm": "NM", "spect": "NM"}
"""Which modality the folders of a subject hold: those of BIDS 1.10, and those in use for CT (BEP 024) and SPECT."""

SUFFIXES: dict[str, str] = {
    **dict.fromkeys(("T1w", "inplaneT1", "MPRAGE", "UNIT1", "MP2RAGE"), "T1"),
    **dict.fromkeys(("T2w", "inplaneT2", "STIR"), "T2"),
    **dict.fromkeys(("T2starw", "T2star"), "T2star"),
    **dict.fromkeys(("PDw", "PDT2"), "PD"),
    "FLAIR": "FLAIR",
    "angio": "angiography",
    **dict.fromkeys(("T1map", "T2map", "T2starmap", "R1map", "R2map", "R2starmap", "PDmap", "MTRmap"), "map"),
}
"""Kinds of MRI by the suffix of a file in ``anat``."""

SCAN_SUFFIXES: dict[Modality, tuple[str, ...]] = {"PT": ("pet",), "CT": ("ct", "CT"), "NM": ("nm", "spect", "NM")}

DERIVED_ENTITIES = ("space", "desc", "label", "res", "den")
"""Entities of derivatives (BIDS 1.10), which no raw file has."""


def is_bids(folder: Path) -> bool:
    """Whether a folder is a BIDS dataset: it says so, or has subjects with NIfTI files as BIDS names them."""
    if (folder / DESCRIPTION).is_file():
        return True
    subjects = sorted(folder.glob("sub-*"))[:20]
    return any(next(one.glob(f"**/{one.name}_*.nii*"), None) is not None for one in subjects if one.is_dir())


def read_bids(folder: Path) -> Mapping[str, tuple[Candidate, ...]]:
    """Describe each scan of a dataset by subject; nothing of its pixels is read.

    Derivatives, source data and code are passed over. A sidecar holds for all files below its folder whose names have
    its entities (BIDS 1.10, the inheritance principle).

    Raises
    ------
    CohortError
        If the reader is not installed, or cannot read the dataset.
    """
    try:
        from ancpbids import DatasetOptions, load_dataset
    except ImportError:
        raise CohortError(
            f"expected ancpbids to read the BIDS dataset {folder}, found it is not installed; run "
            "pip install 'medfuse[bids]', or list the files in a manifest."
        ) from None
    folder = folder.absolute()
    subjects: dict[str, list[Candidate]] = defaultdict(list)
    with silence("ancpbids"):
        try:
            # A pickle file in a dataset would run whatever code it holds.
            dataset = load_dataset(str(folder), DatasetOptions(ignore_pickle_file=True))
            files: list[Any] = list(dataset.query(scope="raw", extension=[".nii", ".nii.gz"]))
        except Exception as error:
            raise CohortError(
                f"{folder} is no BIDS dataset that ancpbids reads; check it with bids-validator, or list its files in "
                "a manifest."
            ) from error
        when = _times(folder)
        for file in files:
            relative = Path(file.get_relative_path())
            modality = FOLDERS.get(relative.parent.name)
            if modality is None or not relative.parts[0].startswith("sub-"):
                continue
            candidate = _candidate(folder, relative, modality, _metadata(file), when)
            if candidate is not None:
                subjects[candidate.subject].append(candidate)
    return {subject: tuple(scans) for subject, scans in sorted(subjects.items())}


def _metadata(file: Any) -> Mapping[str, Any]:
    """What the sidecars say; nothing where one of them is no JSON."""
    with suppress(Exception):  # whatever a damaged sidecar makes the reader raise
        found = file.get_metadata()
        return found if isinstance(found, dict) else {}
    return {}


def _candidate(
    folder: Path, relative: Path, modality: Modality, said: Mapping[str, Any], when: Mapping[str, datetime]
) -> Candidate | None:
    """A scan; None of what is no picture of the modality, such as a mask beside it."""
    *pairs, suffix = relative.name.split(".")[0].split("_")
    entities = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
    subject, session = entities.get("sub", ""), entities.get("ses", "")
    if suffix not in (SUFFIXES if modality == MRI else SCAN_SUFFIXES[modality]) or not LABEL.fullmatch(subject):
        return None
    path = folder / relative
    text = " ".join(f"{name}-{label}" for name, label in entities.items() if name not in ("sub", "ses"))
    described = " ".join(str(said.get(name, "")) for name in ("SeriesDescription", "ProtocolName"))
    shape, spacing = _header(path)
    size: dict[str, Any] = {
        "slices": shape[2] if len(shape) > 2 else 0,
        "edge_mm": max(spacing, default=0.0),
        "extent_mm": shape[2] * spacing[2] if len(shape) > 2 else 0.0,
    }
    facts: dict[str, Any] = {}
    if modality == MRI:
        facts["sequence"] = SUFFIXES[suffix]
        agent = entities.get("ce") or str(said.get("ContrastBolusIngredient", "")) or None
        facts["contrast"] = contrast_of(f"{text} {described}", agent)
    elif modality == "CT":
        facts["kernel"] = kernel_of(f"{said.get('ConvolutionKernel', '')} {entities.get('rec', '')}")
    else:
        facts |= _emission(entities, said, f"{text} {described}")
    return Candidate(
        subject=subject,
        session=session if LABEL.fullmatch(session) else "",
        study=session,
        modality=modality,
        name=relative.name,
        paths=(path,),
        text=f"{relative.name} {described}",
        when=when.get(relative.as_posix()),
        unusable=_unusable(path, entities, said, shape),
        original=not any(name in entities for name in DERIVED_ENTITIES),
        check=cache(lambda: _check(path)),
        **facts,
        **size,
    )


def _emission(entities: Mapping[str, str], said: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Correction, reconstruction and tracer of a PET or SPECT (BIDS 1.10, PET; ``rec-acdyn``, ``rec-nacstat``)."""
    reconstructed = entities.get("rec", "").casefold()
    corrected = True if reconstructed.startswith("ac") else False if reconstructed.startswith("nac") else None
    method = str(said.get("AttenuationCorrection", "")).strip().casefold()
    if method and corrected is None:
        corrected = method not in ("none", "no", "n/a", "false", "uncorrected")
    tracer = entities.get("trc", "")
    return {
        "corrected": corrected_of(text, corrected),
        "reconstruction": reconstruction_of(f"{said.get('ReconMethodName', '')} {text}"),
        "tracer": tracer if LABEL.fullmatch(tracer) else tracer_of(str(said.get("TracerName", ""))),
    }


def _unusable(path: Path, entities: Mapping[str, str], said: Mapping[str, Any], shape: tuple[int, ...]) -> str:
    durations = said.get("FrameDuration")
    if first_foreign([path]) is None or entities.get("desc") in ("fused", "registered"):
        return RESULT
    if entities.get("part") in ("phase", "real", "imag"):
        return "the phase or one part of complex values"
    if len(shape) > 3 and shape[3] > 1:
        frames = f"{shape[3]} volumes"
        return f"a file of {frames}, of which no one is meant; average them, or list a file of one in a manifest"
    if isinstance(durations, list) and len(durations) > 1 and len(shape) > 3:
        return "a dynamic PET, of which no one volume is meant"
    return ""


def _header(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape and spacing as the file's header states them; nothing where it is damaged."""
    try:
        return nifti.read_size(path)
    except (MedfuseError, OSError):
        return (), ()


def _check(path: Path) -> Checked:
    try:
        grid = nifti.read_grid(path)
    except MedfuseError as error:
        return Checked(str(error).replace(str(path), path.name).rstrip("."))
    return Checked("", grid.shape, tuple(float(length) for length in grid.spacing))


def _times(folder: Path) -> dict[str, datetime]:
    """When each file was measured, by ``scans.tsv`` (``acq_time``), else by ``sessions.tsv`` of its subject."""
    times: dict[str, datetime] = {}
    for table in sorted(folder.glob("sub-*/sub-*_sessions.tsv")):
        for row in _rows(table):
            session = table.parent / row.get("session_id", "")
            moment = _moment(row.get("acq_time", ""))
            if moment and session.name.startswith("ses-") and session.is_dir():
                times |= {file.relative_to(folder).as_posix(): moment for file in session.glob("*/*.nii*")}
    for table in [*sorted(folder.glob("sub-*/sub-*_scans.tsv")), *sorted(folder.glob("sub-*/ses-*/*_scans.tsv"))]:
        for row in _rows(table):
            moment = _moment(row.get("acq_time", ""))
            if moment:
                times[(table.parent.relative_to(folder) / row.get("filename", "")).as_posix()] = moment
    return times


def _rows(table: Path) -> Iterator[dict[str, str]]:
    """The rows of a TSV file; none where it cannot be read."""
    with suppress(OSError, ValueError, csv.Error), table.open(encoding="utf-8-sig", newline="") as stream:
        yield from (
            {str(name): value for name, value in row.items() if isinstance(value, str)}
            for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        )


def _moment(text: str) -> datetime | None:
    with suppress(ValueError):
        return datetime.fromisoformat(text.strip().removesuffix("Z")).replace(tzinfo=None)
    return None
