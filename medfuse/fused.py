"""What fusion leaves: slices that are fused when they are asked for, and all that is written of them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medfuse import colour, dicom, nifti, report
from medfuse.export import require_outside, whole
from medfuse.foreground import Foreground
from medfuse.gesenet.engine import Engine
from medfuse.gesenet.stacks import fused_batches
from medfuse.grid import Grid
from medfuse.intensity import Window, scale, to_unit
from medfuse.provenance import Provenance
from medfuse.registration import Registration, Resampled
from medfuse.sidecar import sidecar_path
from medfuse.slices import as_slices
from medfuse.volume import Source, grid_of, like, plain, source_of

Progress = Callable[[str, float], None]
"""Called with the name of the step under way and the share of it that is done."""


@dataclass(frozen=True)
class FusedSlices:
    """The fused slices of two volumes, each made when it is asked for; kept only once `volume` was.

    Iterating gives the slices along the last axis, in order: (3, X, Y) uint8 RGB with a palette, else (1, X, Y) float32
    in [0, 1].

    Parameters
    ----------
    mri
        (1, X, Y, Z) in its own unit.
    partner
        As it lies on the MRI's grid, in its own unit.
    mri_window, partner_window
        What becomes [0, 1] of each.
    engine
        What fuses them; see `medfuse.gesenet.load_engine`.
    palette
        Colours of the partner, if any.
    batch_size
        Slices at once.
    progress
        Told ``fuse`` and the share that is done.
    foreground
        If given, the air outside it is black.

    Raises
    ------
    DeviceError
        While iterating, if not even one slice fits into memory.
    """

    mri: MetaTensor
    partner: Resampled
    mri_window: Window
    partner_window: Window
    engine: Engine
    palette: str | None
    batch_size: int
    progress: Progress | None = None
    foreground: Foreground | None = None

    @property
    def grid(self) -> Grid:
        """Where they lie."""
        return grid_of(self.mri)

    @cached_property
    def volume(self) -> MetaTensor:
        """All of them, (3, X, Y, Z) or (1, X, Y, Z) on the MRI's grid."""
        for _ in self._keeping():
            pass
        return cast("MetaTensor", self._kept)

    @property
    def _kept(self) -> MetaTensor | None:
        kept: MetaTensor | None = self.__dict__.get("volume")
        return kept

    def __iter__(self) -> Iterator[Tensor]:
        return iter(plain(self._kept).unbind(-1)) if self._kept is not None else self._made()

    def stream(self, *, keep: bool = False) -> dicom.SliceStream:
        """The slices as `medfuse.dicom.write_series` takes them one by one; ``keep`` leaves them in `volume`, too."""
        slices = self._keeping() if keep and self._kept is None else iter(self)
        return dicom.SliceStream(slices, self.grid, 3 if self.palette else 1, source_of(self.mri))

    def of(self, mri: Source | None, partner: Source | None) -> FusedSlices:
        """The same slices, said to come from other sources."""
        about = {**self.partner.about, "source": partner}
        said = replace(self, mri=_from(self.mri, mri), partner=replace(self.partner, about=about))
        if self._kept is not None:
            said.__dict__["volume"] = _from(self._kept, mri)
        return said

    def _keeping(self) -> Iterator[Tensor]:
        x, y, slices = self.grid.shape
        # The order of files, so that a slice is contiguous.
        stored = torch.empty((slices, y, x, 3), dtype=torch.uint8) if self.palette else torch.empty((slices, y, x, 1))
        for k, values in enumerate(self._made()):
            stored[k] = values.permute(2, 1, 0)
            yield values
        self.__dict__["volume"] = like(stored.permute(3, 2, 1, 0), self.mri)

    def _made(self) -> Iterator[Tensor]:
        slices = self.grid.shape[2]
        uptake = torch.empty(0)

        def sides(start: int, stop: int) -> tuple[Tensor, Tensor]:
            nonlocal uptake
            uptake = to_unit(self.partner.slices(start, stop), self.partner_window)
            mri = to_unit(plain(self.mri)[..., start:stop], self.mri_window)
            if self.foreground:
                self.foreground.blacken(start, mri, uptake)
            shown = uptake
            if self.palette:
                shown = colour.palette_luma(uptake.movedim(-1, 1), self.palette).movedim(1, -1)
            return as_slices(mri), as_slices(shown)

        for start, batch in fused_batches(self.engine, sides, slices, batch_size=self.batch_size):
            here = batch.mT.cpu()
            if self.progress:
                self.progress("fuse", (start + len(here)) / slices)
            if self.palette:
                here = here.movedim(1, 0)
                here = colour.join_palette(here, uptake.movedim(-1, 1), self.palette).movedim(0, 1)
            yield from here


@dataclass(frozen=True)
class FusedStudy:
    """A fused study: pictures, alignment and how it was made.

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
        return self.slices.volume

    @property
    def mri(self) -> MetaTensor:
        """What was fused: (1, X, Y, Z) float32 in [0, 1], made anew whenever it is asked for."""
        return self.scaled()[0]

    @property
    def partner(self) -> MetaTensor:
        """What it was fused with, on the same grid: (1, X, Y, Z) float32 in [0, 1], made anew likewise."""
        return self.scaled()[1]

    def scaled(self) -> tuple[MetaTensor, MetaTensor]:
        """Both at once, which costs no more than one."""
        slices = self.slices
        mri, partner = scale(slices.mri, slices.mri_window), scale(self.registered(), slices.partner_window)
        if slices.foreground:
            slices.foreground.blacken(0, plain(mri), plain(partner))
        return mri, partner

    def registered(self) -> MetaTensor:
        """The partner on the MRI's grid in its own unit: (1, X, Y, Z) float32, interpolated once."""
        return self.slices.partner.volume()

    @property
    def sources(self) -> tuple[Source | None, Source | None]:
        """Where MRI and partner came from, as far as they know."""
        partner = self.slices.partner.about.get("source")
        return source_of(self.slices.mri), partner if isinstance(partner, Source) else None

    @cached_property
    def identity(self) -> dicom.Like:
        """Whose patient, study and frame of reference all DICOM series of this study take, unless told otherwise."""
        return dicom.identity_of(*self.sources)

    def deidentified(self, by: dicom.Deidentifier | None = None) -> FusedStudy:
        """The same study as if its sources had been de-identified: all that it writes is so, and consistent.

        Parameters
        ----------
        by
            Gives UIDs, dates and pseudonym; a fresh one by default.

        Raises
        ------
        ExportError
            If a source says that text is burned into its pixels.
        """
        by = by or dicom.Deidentifier()
        mri, partner = (by.source(source) for source in self.sources)
        return replace(
            self,
            slices=self.slices.of(mri, partner),
            provenance=replace(
                self.provenance,
                mri_source=mri.references if mri else (),
                partner_source=partner.references if partner else (),
            ),
        )

    def write_dicom(
        self,
        folder: str | Path,
        *,
        like: dicom.Like | None = None,
        description: str | None = None,
        number: int | None = None,
        compression: dicom.Compression = "none",
        bits: dicom.Bits = 16,
        multiframe: bool = False,
        overwrite: bool = False,
        keep: bool = True,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """Write a DICOM series, one file a slice; see `medfuse.dicom.write_series` for what can be chosen.

        Slices that are not fused yet are fused meanwhile. They stay in `image`, or, without ``keep``, are let go of as
        they are written, and fused again where they are asked for again.

        Raises
        ------
        ExportError
            If the folder is taken, lies in an input, or cannot be written.
        DeviceError
            If slices are still to be fused, and not even one fits into memory.
        """
        dicom.write_series(
            self.slices.stream(keep=keep),
            folder,
            like=self.identity if like is None else like,
            partner=self.sources[1],
            provenance=self.provenance,
            description=description,
            number=number,
            compression=compression,
            bits=bits,
            multiframe=multiframe,
            overwrite=overwrite,
            progress=progress,
        )

    def write_partner(
        self,
        folder: str | Path,
        *,
        like: dicom.Like | None = None,
        compression: dicom.Compression = "none",
        overwrite: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """Write the registered partner as a DICOM series of measured values; see `medfuse.dicom.write_partner`."""
        dicom.write_partner(
            self.registered(),
            folder,
            mri=self.sources[0],
            provenance=self.provenance,
            like=self.identity if like is None else like,
            compression=compression,
            overwrite=overwrite,
            progress=progress,
        )

    def write_alignment(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the registration as a DICOM object; see `medfuse.dicom.write_alignment`."""
        mri, partner = self.sources
        dicom.write_alignment(
            folder,
            mri=mri,
            partner=partner,
            registration=self.provenance.registration,
            overwrite=overwrite,
        )

    def write_blending(self, folder: str | Path, partner: str | Path, *, overwrite: bool = False) -> None:
        """Write how to look at the MRI under what `write_partner` wrote; see `medfuse.dicom.write_blending`."""
        dicom.write_blending(
            folder, mri=self.sources[0], partner=partner, provenance=self.provenance, overwrite=overwrite
        )

    def write_nifti(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write ``path`` (.nii or .nii.gz) and its JSON sidecar beside it; see `medfuse.nifti.write`.

        Raises
        ------
        ExportError
            If a file is taken, lies in an input, or cannot be written.
        """
        path = Path(path)
        self._require_outside_sources(path, sidecar_path(path))
        nifti.write(self.image, path, self.sidecar(), overwrite=overwrite)

    def write_partner_nifti(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the registered partner, float32 in its own unit on the MRI's grid, and its JSON sidecar beside it."""
        path = Path(path)
        self._require_outside_sources(path, sidecar_path(path))
        partner = self.registered()
        sidecar = self.sidecar() | {
            "Description": f"The partner, aligned with the MRI: {self.provenance.alignment}.",
            "Units": partner.meta["unit"],
        }
        nifti.write_measured(partner, path, sidecar, overwrite=overwrite)

    def write_picture(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a PNG of sources and fused volume in three planes."""
        self._require_outside_sources(Path(path))
        with whole(Path(path), overwrite) as beside:
            beside.write_bytes(report.picture(self))

    def sidecar(self) -> dict[str, object]:
        """What the JSON file beside the NIfTI holds, in the words of BIDS derivatives and under ``Medfuse`` in full."""
        provenance = self.provenance
        name, version = provenance.software.split(" ")
        return {
            "Description": provenance.sentence(),
            "Sources": [*provenance.mri_source, *provenance.partner_source],
            "SpatialReference": list(provenance.mri_source),
            "GeneratedBy": [{"Name": name, "Version": version}],
            "Medfuse": provenance.to_dict(),
        }

    def _require_outside_sources(self, *paths: Path) -> None:
        sources = [source.path for source in self.sources if source is not None]
        for path in paths:
            require_outside(path, sources)

    def __repr__(self) -> str:
        kind = "RGB" if self.slices.palette else "grey"
        return f"FusedStudy(MR + {self.provenance.partner_modality}, {kind}, {self.slices.grid!r})"

    def _repr_html_(self) -> str:
        encoded = base64.b64encode(report.picture(self, dots_per_inch=80)).decode()
        return f'<img alt="{self!r}" src="data:image/png;base64,{encoded}">'


def _from(volume: MetaTensor, source: Source | None) -> MetaTensor:
    """The same voxels in the same place, said to come from another source."""
    return MetaTensor(plain(volume), meta={**volume.meta, "source": source})
