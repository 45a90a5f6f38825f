"""Write the results of a study as BIDS derivatives, all at once, and sum them up as a row of the cohort's table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai.data.meta_tensor import MetaTensor

from medfuse import nifti
from medfuse.cohort.running.request import Request
from medfuse.cohort.study.places import Places
from medfuse.cohort.study.record import Record, outputs_of
from medfuse.errors import ExportError
from medfuse.pipeline.fused_study import FusedStudy
from medfuse.report.cohort.thumbnail import thumbnail
from medfuse.runtime.output.exchange import settle, staging
from medfuse.volume import grid_of, plain

MOST_SAMPLED = 10**6


@contextmanager
def published(places: Places, former: Record | None) -> Iterator[Path]:
    """Offer a folder whose entries take the place of a study's former results in one step, once the block ends well.

    Raises
    ------
    ExportError
        If a place is taken by what no record says that a cohort wrote, or cannot be written.
    """
    try:
        settle(places.folder / places.record)
        with staging(places.folder, places.record) as staged:
            staged.new.mkdir(exist_ok=True)
            yield staged.new
            new = sorted(entry.name for entry in staged.new.iterdir())
            owned = former.entries if former else []
            taken = [name for name in new if (places.folder / name).exists() and name not in (*owned, places.record)]
            if taken:
                raise ExportError(
                    f"{places.folder / taken[0]} was not written by this cohort, and nothing but its own results is "
                    "replaced; move it away, or choose another --out."
                )
            staged.publish(new, [*owned, places.record])
    except OSError as error:
        raise ExportError(
            f"cannot write {places.folder}: {error.strerror or type(error).__name__}. Free space there, or correct its "
            "permissions, and run the command again."
        ) from error


def write_study(study: FusedStudy, request: Request, places: Places, folder: Path) -> None:
    """Write what was asked for into a folder: images with their sidecars, the map, and DICOM series."""
    common = _sidecar(study, request)
    nifti.write(study.image, folder / places.image("fused"), common)
    registered = study.registered()
    partner = {
        "Description": f"The partner on the MRI's grid: {study.provenance.alignment}.",
        "Units": registered.meta["unit"],
    }
    nifti.write_measured(registered, folder / places.image("registered"), {**common, **partner})
    (folder / places.thumbnail).write_bytes(thumbnail(study.image, study.mri))
    deforms = study.registration.warp is not None
    study.registration.save(folder / places.transform(".h5" if deforms else ".tfm"))
    if request.settings.report:
        study.write_report(folder / places.report)
    if request.settings.dicom:
        study.write_dicom(folder / places.dicom("fused"))
        study.write_partner(folder / places.dicom("registered"))


def _sidecar(study: FusedStudy, request: Request) -> dict[str, object]:
    """What both images say of themselves; how long it took is left out, so that equal work gives equal files."""
    said = study.sidecar()
    provenance: Any = said["Medfuse"]
    provenance = {**provenance, "registration": {**provenance["registration"], "seconds": None}}
    mri, partner = (_uris(paths, request) for paths in (request.mri, request.partner))
    stated: Any = said["Sources"]
    anchor = mri or list(study.provenance.mri_source)
    return {
        **said,
        "Sources": [*mri, *partner] if mri and partner else stated,
        "SpatialReference": anchor[0] if anchor else "the MRI",
        "SkullStripped": False,
        "Medfuse": provenance,
    }


def _uris(paths: tuple[str, ...], request: Request) -> list[str]:
    """BIDS URIs of files in a known dataset; nothing where one is in none, for its path may name a patient."""
    found = []
    for path in map(Path, paths):
        for root, name in request.links.items():
            if path.is_relative_to(root):
                found.append(f"bids:{name}:{path.relative_to(root).as_posix()}")
                break
        else:
            return []
    return found if not request.settings.deidentify else []


def table_row(study: FusedStudy, request: Request, places: Places, partner_grid: Any) -> dict[str, Any]:
    """What the cohort's table and page say of a study."""
    provenance = study.provenance
    registration = provenance.registration
    suv = provenance.partner_suv or {}
    grid = grid_of(study.slices.pair.mri)
    return {
        "modality": provenance.partner_modality,
        "verdict": registration["verdict"],
        "doubtful": registration["doubtful"],
        "error_mm": registration["error_mm"],
        "method": registration["method"],
        "rotation_deg": registration["rotation_deg"],
        "translation_mm": registration["translation_mm"],
        "overlap": registration["scores"].get("overlap"),
        "mri_window_lower": provenance.mri_window.lower,
        "mri_window_upper": provenance.mri_window.upper,
        "partner_window_lower": provenance.partner_window.lower,
        "partner_window_upper": provenance.partner_window.upper,
        "partner_unit": provenance.partner_unit,
        "partner_p99": _high(study.registered()),
        "suv": suv.get("normalisation"),
        "suv_factor": suv.get("factor"),
        "palette": provenance.palette,
        "plane": provenance.plane,
        "mri_shape": list(grid.shape),
        "mri_spacing_mm": [round(length, 4) for length in grid.spacing],
        "partner_shape": list(partner_grid.shape),
        "partner_spacing_mm": [round(length, 4) for length in partner_grid.spacing],
        "fused_by": provenance.fused_by,
        "engine": provenance.engine,
        "weights": provenance.weights and provenance.weights["name"],
        "weights_sha256": provenance.weights and provenance.weights["sha256"],
        "software": provenance.software,
        "thumbnail": (places.folder / places.thumbnail).relative_to(request.folder).as_posix(),
        "report": (places.folder / places.report).relative_to(request.folder).as_posix(),
    }


def _high(volume: MetaTensor) -> float:
    """The 99th percentile of a volume, of about every n-th voxel where there are more than `MOST_SAMPLED`."""
    values = plain(volume).ravel()
    sampled = values[:: -(-values.numel() // MOST_SAMPLED)].double()
    return float(sampled[sampled.isfinite()].quantile(0.99)) if sampled.isfinite().any() else 0.0


def recorded(folder: Path, places: Places, record: Record) -> Record:
    """Write the record of what a folder holds beside it."""
    record = Record(record.digest, record.inputs, outputs_of(folder), record.row)
    record.write(folder / places.record)
    return record
