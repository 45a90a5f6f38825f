"""Look at a fused study: its volumes, where they come from, figures, its page, and what notebooks show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy.typing as npt
from monai.data.meta_tensor import MetaTensor

from medfuse.methods.attribution import Attribution
from medfuse.metrics.excess import InventedStructure
from medfuse.pipeline.figure import panels, rows_of
from medfuse.pipeline.fused_slices import FusedSlices
from medfuse.pipeline.report.notebook import InlinePage
from medfuse.pipeline.report.study_page import StudyParts, study_page
from medfuse.pipeline.report.widget import linked_widgets
from medfuse.provenance import DISCLAIMER, Provenance
from medfuse.registration import Registration
from medfuse.report.figure_names import COLUMNS, Column, FigurePlane, View
from medfuse.report.page.render import image_url, require_page_suffix, write_page
from medfuse.report.study_figure import Figure, draw_study, png_of, require_figure_suffix, save_figure
from medfuse.runtime.notebook.html_table import facts_table
from medfuse.runtime.output.atomic_output import atomic_file, require_outside
from medfuse.runtime.progress import Progress
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import Source, source_of

if TYPE_CHECKING:
    from ipywidgets import HBox


@dataclass(frozen=True)
class StudyViews:
    """What a fused study shows of itself; `medfuse.FusedStudy` also writes it.

    Parameters
    ----------
    slices
        The fused slices.
    registration
        Maps MRI → partner world points, RAS+ mm.
    provenance
        The steps taken.
    """

    slices: FusedSlices
    registration: Registration
    provenance: Provenance

    @property
    def image(self) -> MetaTensor:
        """The fused volume on the MRI's grid: (3, X, Y, Z) uint8 RGB with a palette, else (1, X, Y, Z) in [0, 1]."""
        return self.slices.keep()

    @property
    def mri(self) -> MetaTensor:
        """What was fused: (1, X, Y, Z) float32 in [0, 1], made anew whenever it is asked for."""
        return self.scaled()[0]

    @property
    def partner(self) -> MetaTensor:
        """What it was fused with, on the same grid: (1, X, Y, Z) float32 in [0, 1], made anew likewise."""
        return self.scaled()[1]

    @default_settings()
    def scaled(self) -> tuple[MetaTensor, MetaTensor]:
        """Both at once, which costs no more than one."""
        return self.slices.pair.scaled()

    @default_settings()
    def registered(self) -> MetaTensor:
        """The partner on the MRI's grid in its own unit: (1, X, Y, Z) float32, interpolated once."""
        return self.slices.pair.partner.volume()

    def attribution(self, *, progress: Progress | None = None) -> Attribution:
        """Share out the fused luma: what of each voxel comes from the MRI, from the partner, and from neither.

        The three add up to the luma that the method fused, before it took the partner's colours. Computed when it is
        asked for, by ten runs of the method, with the step ``attribute``; see `medfuse.methods.attribution`.

        Raises
        ------
        MethodError
            If a method that is not medfuse's fails on black or darkened slices.
        """
        return self.slices.attribution(progress)

    def invented_structure(self) -> InventedStructure:
        """Find edges of the fused picture, in its luma, that neither source has; see `medfuse.metrics.excess`."""
        return self.slices.invented_structure()

    @property
    def sources(self) -> tuple[Source | None, Source | None]:
        """Where MRI and partner came from, as far as they know."""
        return source_of(self.slices.pair.mri), source_of(self.slices.pair.partner)

    @default_settings()
    def figure(
        self,
        slices: int | Sequence[int] = 3,
        *,
        plane: FigurePlane = "axial",
        columns: Sequence[Column] = COLUMNS,
        at: npt.ArrayLike | None = None,
        view: View = "radiological",
        dark: bool = False,
    ) -> Figure:
        """Draw slices as papers print them: letters, positions, a scale bar, colour bars with their unit.

        Parameters
        ----------
        slices
            How many slices, evenly spaced through what the MRI shows; or their numbers in the plane, from 0.
        plane
            Which slices; ``orthogonal`` draws an axial, a coronal and a sagittal one through one point.
        columns
            Which of ``mri``, ``partner`` and ``fused``, from left to right.
        at
            A point, RAS+ mm, that is marked; the slice through it is drawn instead of ``slices``. Where ``plane`` is
            ``orthogonal``, the middle of what the MRI shows by default, not marked.
        view
            ``radiological``: the patient's left on the right; or ``neurological``.
        dark
            White on black instead of black on white.

        Returns
        -------
        Figure
            Of matplotlib, for ``savefig``; `write_figure` writes it with text as text.

        Raises
        ------
        ValueError
            If there is no such column, slice or view, or the point lies outside the study.
        """
        mri, partner = self.scaled()
        shown = panels(mri, partner, self.image, self.provenance, columns)
        note = f"Alignment: {self.provenance.alignment}. {DISCLAIMER}"
        return draw_study(shown, rows_of(mri, slices, plane=plane, at=at, view=view), note=note, dark=dark)

    def write_figure(self, path: str | Path, figure: Figure, *, overwrite: bool = False, dpi: int = 300) -> None:
        """Write what `figure` drew as PNG, PDF or SVG, by the path's suffix.

        Raises
        ------
        ExportError
            If the suffix is another, or the file is taken, lies in an input, or cannot be written.
        """
        path = Path(path)
        require_figure_suffix(path)
        self._require_outside_sources(path)
        with atomic_file(path, overwrite) as beside:
            save_figure(figure, beside, dpi=dpi)

    @default_settings()
    def report(self, *, progress: Progress | None = None) -> str:
        """Render the page by which people see what was fused, whether it fits, and what came out: HTML in one file.

        It asks for nothing from anywhere, and says nothing of whose study it is; see `write_report`.
        """
        return study_page(self._parts(), progress=progress)

    def _parts(self) -> StudyParts:
        mri, partner = self.scaled()
        return StudyParts(
            mri=mri,
            partner=partner,
            measured=(self.slices.pair.mri, self.registered()),
            fused=self.image,
            provenance=self.provenance,
            registration=self.registration,
            sources=self.sources,
            slices=self.slices,
        )

    def write_report(self, path: str | Path, *, overwrite: bool = False, progress: Progress | None = None) -> None:
        """Write `report` as one HTML file, to be opened from the disk: pictures, and a viewer with a linked crosshair.

        Raises
        ------
        ExportError
            If the path does not end in .html, or the file is taken, lies in an input, or cannot be written.
        """
        path = Path(path)
        require_page_suffix(path)
        self._require_outside_sources(path)
        write_page(path, self.report(progress=progress), overwrite=overwrite)

    def write_picture(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a PNG of sources and fused volume in three planes."""
        self._require_outside_sources(Path(path))
        with atomic_file(Path(path), overwrite) as beside:
            beside.write_bytes(self._picture())

    def _picture(self, dots_per_inch: int = 150) -> bytes:
        return png_of(self.figure(plane="orthogonal", dark=True), dpi=dots_per_inch)

    def _require_outside_sources(self, *paths: Path) -> None:
        sources = [source.path for source in self.sources if source is not None]
        for path in paths:
            require_outside(path, sources)

    def __repr__(self) -> str:
        kind = "RGB" if self.slices.channels == 3 else "grey"
        return f"FusedStudy(MR + {self.provenance.partner_modality}, {kind}, {self.slices.grid!r})"

    def _repr_html_(self) -> str:
        """What notebooks show: sources and fused volume in three planes, and a table."""
        picture = image_url(self._picture(dots_per_inch=100))
        provenance = self.provenance
        facts = [
            ("fused", f"{provenance.partner_modality} with MR by {provenance.fused_by}"),
            ("alignment", provenance.alignment),
            ("voxels", repr(self.slices.grid)),
            ("use", DISCLAIMER),
        ]
        return f'<div><img alt="{escape(repr(self))}" src="{picture}">{facts_table(facts)}</div>'

    def view(self, *, height: int = 800) -> InlinePage | HBox:
        """Open the viewer of MRI, partner and fused picture within a notebook.

        Parameters
        ----------
        height
            In pixels.

        Returns
        -------
        HBox or InlinePage
            What a notebook shows where it is the last line of a cell: widgets of ipyniivue where that is installed,
            else the page that `report` renders, in a frame.
        """
        return linked_widgets(self._parts(), height=height) or InlinePage(self.report(), height)
