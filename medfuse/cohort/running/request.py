"""Describe one fusion of a plan as plain values, which travel to the process that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from medfuse.cohort.running.settings import Settings


class Row(Protocol):
    """What a run needs of a plan's row; see `medfuse.cohort.PlannedFusion`."""

    @property
    def name(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def session(self) -> str: ...
    @property
    def mri(self) -> tuple[Path, ...]: ...
    @property
    def mri_series(self) -> str: ...
    @property
    def partner(self) -> tuple[Path, ...]: ...
    @property
    def partner_series(self) -> str: ...
    @property
    def modality(self) -> str: ...
    @property
    def tracer(self) -> str: ...
    @property
    def align(self) -> str: ...
    @property
    def window(self) -> str: ...
    @property
    def palette(self) -> str: ...
    @property
    def plane(self) -> str: ...
    @property
    def method(self) -> str: ...


OWN = ("align", "window", "palette", "plane", "method")
"""Settings that a row may have of its own."""


@dataclass(frozen=True)
class Request:
    """One fusion, where its results go, and for which run.

    Parameters
    ----------
    name, subject, session, mri_series, partner_series, modality, tracer
        As in the plan.
    mri, partner
        Paths, one or several.
    own
        What the row says of `OWN`.
    settings
        Those of the cohort.
    out
        The cohort's folder.
    run
        The run that asks.
    links
        Folders of BIDS datasets, and the names by which their files are referred to.
    refusal
        Digest and sentence of an earlier refusal, which holds as long as nothing changes.
    """

    name: str
    subject: str
    session: str
    mri: tuple[str, ...]
    partner: tuple[str, ...]
    mri_series: str
    partner_series: str
    modality: str
    tracer: str
    own: Mapping[str, str]
    settings: Settings
    out: str
    run: str
    links: Mapping[str, str]
    refusal: Mapping[str, str]

    @classmethod
    def of(
        cls,
        row: Row,
        settings: Settings,
        out: Path,
        run: str,
        links: Mapping[str, str],
        refusal: Mapping[str, str] | None = None,
    ) -> Request:
        """Ask for a row of a plan."""
        return cls(
            name=row.name,
            subject=row.subject,
            session=row.session,
            mri=tuple(map(str, row.mri)),
            partner=tuple(map(str, row.partner)),
            mri_series=row.mri_series,
            partner_series=row.partner_series,
            modality=str(row.modality),
            tracer=row.tracer,
            own={name: str(getattr(row, name)) for name in OWN},
            settings=settings,
            out=str(out),
            run=run,
            links=dict(links),
            refusal=dict(refusal or {}),
        )

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Request:
        """The request that `to_dict` describes."""
        lists = {name: tuple(said[name]) for name in ("mri", "partner")}
        return cls(**{**said, **lists, "settings": Settings(**said["settings"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def of_modality(self, modality: str) -> Request:
        """The same, once the partner's header has said its modality."""
        return replace(self, modality=modality)

    @property
    def effective(self) -> dict[str, Any]:
        """The settings that concern it; see `Settings.effective`."""
        return self.settings.effective(self.modality, self.own)

    @property
    def folder(self) -> Path:
        """The cohort's folder."""
        return Path(self.out)
