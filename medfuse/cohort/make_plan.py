"""Plan a cohort: find what its source holds, choose by rules, and say why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from medfuse.cohort.bids import is_bids, read_bids
from medfuse.cohort.candidate import Candidate
from medfuse.cohort.dicom_tree import read_tree
from medfuse.cohort.manifest import read_manifest
from medfuse.cohort.pair import pair_subject
from medfuse.cohort.planned import LeftOut, Plan, PlannedFusion
from medfuse.cohort.rules import Rules
from medfuse.dicom.scanning.collect import without_garbage_collection
from medfuse.dicom.scanning.series import Accepted
from medfuse.errors import CohortError, StudyError
from medfuse.nifti.other_formats import what_else

MANIFEST_SUFFIXES = (".csv", ".tsv", ".txt")


@without_garbage_collection()  # once for all: each time it goes on again, it visits all headers that are held
def plan(source: str | Path, *, rules: Rules | str | Path | None = None) -> Plan:
    """Say what would be fused with what, and why; nothing is written, and no pixels are read.

    Parameters
    ----------
    source
        A BIDS dataset; a folder of DICOM files in any layout, a DICOMDIR or a zip archive; or a manifest, as CSV or
        TSV.
    rules
        How MRIs and partners are chosen, or the path of a YAML file that says so; `Rules` by default. A manifest has
        been chosen already, and takes none.

    Returns
    -------
    Plan
        Rows in the order of subjects and sessions. Of a manifest, rows whose files are not there are faults.

    Raises
    ------
    CohortError
        If the source is none of these, or the rules cannot be read.
    SeriesError
        If the source does not exist, or a folder in it cannot be opened.
    """
    source = Path(source)
    chosen = rules if isinstance(rules, Rules) else Rules() if rules is None else Rules.from_yaml(rules)
    if source.is_file() and source.suffix.lower() in MANIFEST_SUFFIXES:
        if rules is not None:
            raise CohortError(
                f"expected no rules with {source.name}, a manifest, whose rows are chosen; leave them out."
            )
        return read_manifest(source, require_inputs=True)
    if source.is_dir() and is_bids(source):
        return _paired(read_bids(source), (), chosen, source)
    tree = read_tree(source)
    if not tree.subjects:
        other = what_else(source) if source.exists() else ""
        raise CohortError(
            f"expected a BIDS dataset, DICOM images or a manifest in {source}, found "
            f"{'none' if not other else 'other formats alone'}; check the path, or list the files in a manifest."
        )
    return _paired(tree.subjects, tree.left_out, chosen, source)


@without_garbage_collection()
def plan_study(
    study: Path,
    modality: str | None = None,
    *,
    rules: Rules | None = None,
    fill_gaps: bool = False,
    accept_cut: bool = False,
) -> tuple[PlannedFusion, Plan]:
    """Choose the MRI and the one partner of a folder that holds the series of one patient.

    Parameters
    ----------
    study
        A folder, a DICOMDIR or a zip archive.
    modality
        The partner's, where there are several.
    rules
        As of `plan`.
    fill_gaps, accept_cut
        As of `medfuse.load`.

    Raises
    ------
    StudyError
        If there is no pair, or several, or the series are of several patients.
    SeriesError
        As of `plan`.
    """
    tree = read_tree(study, one_patient=True, accepted=Accepted(gaps=fill_gaps, cut=accept_cut))
    if len(tree.subjects) > 1:
        raise StudyError(
            f"expected series of one patient in {study}, found {len(tree.subjects)}; give the two studies by their own "
            "paths, or plan all of them (medfuse cohort plan)."
        )
    found = _paired(tree.subjects, tree.left_out, rules or Rules(), study)
    rows = [row for row in found.rows if modality in (None, row.modality)]
    if len(rows) == 1:
        return rows[0], found
    kinds = ", ".join(f"{row.modality}{f' ({row.tracer})' if row.tracer else ''}" for row in rows or found.rows)
    if rows:
        raise StudyError(
            f"expected one partner in {study}, found {len(rows)}: {kinds}. Say which (modality=..., --modality), or "
            "give the path of each."
        )
    if found.rows:
        raise StudyError(
            f"expected a partner of modality {modality} in {study}, found {len(found.rows)} of another: {kinds}. Say "
            "that (modality=..., --modality), or give the paths of two studies."
        )
    why = "; ".join(f"{one.series}: {one.reason}" for one in found.left_out[:6]) or "no DICOM image"
    raise StudyError(
        f"expected an MRI and its partner in {study}, found no pair ({why}). Give the paths of two studies."
    )


def _paired(
    subjects: Mapping[str, Iterable[Candidate]], left_out: Iterable[LeftOut], rules: Rules, source: Path
) -> Plan:
    rows: list[PlannedFusion] = []
    left: list[LeftOut] = []
    taken: set[str] = set()
    for candidates in subjects.values():
        fusions, unused = pair_subject(list(candidates), rules, taken)
        rows += fusions
        left += unused
    return Plan(tuple(rows), (*left, *left_out), (), source)
