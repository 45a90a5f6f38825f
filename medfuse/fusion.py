"""The main road: two volumes in, one fused study out."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast, get_args

from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose

from medfuse import dicom, nifti, report
from medfuse.dicom.palettes import palette_table
from medfuse.errors import MedfuseError
from medfuse.export import require_outside, whole
from medfuse.gesenet.engine import AUTO, Engine, load_engine
from medfuse.gesenet.stacks import DEFAULT_BATCH_SIZE
from medfuse.intensity import Window, choose_window, outside_value
from medfuse.provenance import Provenance
from medfuse.registration import Align, Registration, resample
from medfuse.sidecar import sidecar_path
from medfuse.slices import PLANES, Plane
from medfuse.study import require_pair
from medfuse.transforms import (
    FuseSlicesd,
    JoinColourd,
    Registerd,
    Replaned,
    ResampleOntod,
    Scaled,
    SplitLumad,
    Straightend,
)
from medfuse.volume import Source, grid_of, meta_of, plain, source_of

DEFAULT_PALETTE = "hot-iron"

Progress = Callable[[str, float], None]
"""Called with the name of the step under way and the share of it that is done."""


@dataclass(frozen=True)
class FusedStudy:
    """A fused study: pictures, alignment and how it was made.

    Parameters
    ----------
    image
        The fused volume on the MRI's grid: (3, X, Y, Z) uint8 RGB where a palette was used, else (1, X, Y, Z) float32
        in [0, 1].
    mri, partner
        (1, X, Y, Z) float32 in [0, 1] on the same grid: what was fused.
    registration
        Maps MRI → partner world points, RAS+ mm.
    provenance
        The steps taken.
    measured
        The partner as it was loaded, in its own unit and place.
    """

    image: MetaTensor
    mri: MetaTensor
    partner: MetaTensor
    registration: Registration
    provenance: Provenance
    measured: MetaTensor

    @cached_property
    def identity(self) -> dicom.Like:
        """Whose patient, study and frame of reference all DICOM series of this study take, unless told otherwise."""
        return dicom.identity_of(source_of(self.mri), source_of(self.measured))

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
        sources = {volume: by.source(source_of(getattr(self, volume))) for volume in ("mri", "measured")}
        return replace(
            self,
            mri=_from(self.mri, sources["mri"]),
            partner=_from(self.partner, sources["measured"]),
            image=_from(self.image, sources["mri"]),
            measured=_from(self.measured, sources["measured"]),
            provenance=replace(
                self.provenance,
                mri_source=sources["mri"].references if sources["mri"] else (),
                partner_source=sources["measured"].references if sources["measured"] else (),
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
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """Write a DICOM series, one file a slice; see `medfuse.dicom.write_series` for what can be chosen.

        Raises
        ------
        ExportError
            If the folder is taken, lies in an input, or cannot be written.
        """
        dicom.write_series(
            self.image,
            folder,
            like=self.identity if like is None else like,
            partner=source_of(self.measured),
            provenance=self.provenance,
            description=description,
            number=number,
            compression=compression,
            bits=bits,
            multiframe=multiframe,
            overwrite=overwrite,
            progress=progress,
        )

    def registered(self) -> MetaTensor:
        """The partner on the MRI's grid in its own unit: (1, X, Y, Z) float32, interpolated once."""
        return resample(self.measured, grid_of(self.image), self.registration, outside=outside_value(self.measured))

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
            mri=source_of(self.mri),
            provenance=self.provenance,
            like=self.identity if like is None else like,
            compression=compression,
            overwrite=overwrite,
            progress=progress,
        )

    def write_alignment(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the registration as a DICOM object; see `medfuse.dicom.write_alignment`."""
        dicom.write_alignment(
            folder,
            mri=source_of(self.mri),
            partner=source_of(self.measured),
            provenance=self.provenance,
            overwrite=overwrite,
        )

    def write_blending(self, folder: str | Path, partner: str | Path, *, overwrite: bool = False) -> None:
        """Write how to look at the MRI under what `write_partner` wrote; see `medfuse.dicom.write_blending`."""
        dicom.write_blending(
            folder, mri=source_of(self.mri), partner=partner, provenance=self.provenance, overwrite=overwrite
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
        sources = [source.path for source in map(source_of, (self.mri, self.partner)) if source is not None]
        for path in paths:
            require_outside(path, sources)

    def __repr__(self) -> str:
        kind = "RGB" if len(self.image) == 3 else "grey"
        return f"FusedStudy(MR + {self.provenance.partner_modality}, {kind}, {grid_of(self.image)!r})"

    def _repr_html_(self) -> str:
        encoded = base64.b64encode(report.picture(self, dots_per_inch=80)).decode()
        return f'<img alt="{self!r}" src="data:image/png;base64,{encoded}">'


def fuse(
    mri: MetaTensor,
    partner: MetaTensor,
    *,
    align: Align | Registration = "auto",
    force: bool = False,
    window: str | Window | None = None,
    palette: str | None = None,
    plane: Plane = "native",
    weights: str | Path = "default",
    device: str = "auto",
    engine: str | Engine = AUTO,
    batch_size: int = DEFAULT_BATCH_SIZE,
    different_patients: bool = False,
    progress: Progress | None = None,
) -> FusedStudy:
    """Fuse an MRI with a CT, PET or SPECT study.

    Parameters
    ----------
    mri, partner
        Volumes as `medfuse.load` returns them, (1, X, Y, Z) in their own units; left unchanged.
    align
        ``auto`` trusts a common frame of reference unless the pictures speak against it, and else registers rigidly;
        ``header`` trusts the positions in the headers; ``rigid``, ``affine`` and ``deformable`` always register; or a
        registration made before. See `medfuse.register`.
    force
        Fuse even where the pictures say that the result is not aligned; all that is written says so.
    window
        Range of the partner shown: a CT preset's name, ``"LEVEL,WIDTH"`` or a `Window`, in the partner's unit.
    palette
        Colours of the partner; PET and SPECT have ``hot-iron`` by default, CT none.
    plane
        Which slices are fused and written: as acquired, or the nearest axial, coronal or sagittal ones.
    weights
        ``default`` or a weights file; see `medfuse.gesenet.load_network`.
    device
        ``auto``, ``cpu`` or ``cuda``.
    engine
        How the network is run: ``auto`` takes the fastest that is installed, other names are those of
        `medfuse.gesenet.load_engine`. An engine loaded before serves many studies; it has its own weights and device.
    batch_size
        Slices at once; halved where memory runs out. It changes the result by float32 rounding only.
    different_patients
        Accept studies whose headers name different patients.
    progress
        Called with the step's name and the share of it that is done.

    Raises
    ------
    StudyError
        If the studies are not an MRI and its partner.
    RegistrationError
        If they cannot be aligned, or the pictures do not confirm it.
    IntensityError, WeightsError, DeviceError
        If window, palette, weights, device or engine are not as asked.
    """
    require_pair(mri, partner, different_patients=different_patients)
    measured = partner
    unit = meta_of(partner)["unit"]
    modality = meta_of(partner)["modality"]
    if palette is None and modality != "CT":
        palette = DEFAULT_PALETTE
    # What is cheap to check is checked before what takes minutes.
    if palette is not None:
        palette_table(palette)
    if window is not None:
        choose_window(partner, window)
    _require_known(align, plane, batch_size)
    straightened = not grid_of(mri).upright
    network = engine if isinstance(engine, Engine) else load_engine(engine, device, weights)
    line = Compose(
        [
            Straightend("mri"),
            Registerd("mri", "partner", align, force=force, progress=progress and _share_of("align", progress)),
            Replaned("mri", plane),
            ResampleOntod("partner", onto="mri"),
            Scaled("mri"),
            Scaled("partner", window),
            SplitLumad("partner", "luma", palette),
            FuseSlicesd("mri", "luma", "fused", network, batch_size, progress=progress and partial(progress, "fuse")),
            JoinColourd("fused", "partner", palette, progress=progress and partial(progress, "colour")),
        ]
    )
    data = _run(line, {"mri": mri, "partner": partner})
    mri, partner = data["mri"], data["partner"]
    sources = [source_of(volume) for volume in (mri, partner)]
    provenance = Provenance(
        mri_source=sources[0].references if sources[0] else (),
        partner_source=sources[1].references if sources[1] else (),
        partner_modality=modality,
        registration=data["registration"].to_dict(),
        plane=plane,
        mri_window=mri.meta["window"],
        partner_window=partner.meta["window"],
        partner_unit=unit,
        palette=palette,
        weights=dict(network.origin),
        engine=network.name,
        different_patients=different_patients,
        mri_straightened=straightened,
        mri_filled_slices=sources[0].filled_slices if sources[0] else 0,
        partner_filled_slices=sources[1].filled_slices if sources[1] else 0,
    )
    return FusedStudy(data["fused"], mri, partner, data["registration"], provenance, measured)


def _share_of(step: str, progress: Progress) -> Callable[[float, float], None]:
    """Tells of the registration how far it is, and not how good."""
    return lambda share, score: progress(step, share)


def _from(volume: MetaTensor, source: Source | None) -> MetaTensor:
    """The same voxels in the same place, said to come from another source."""
    return MetaTensor(plain(volume), meta={**volume.meta, "source": source})


def _require_known(align: Align | Registration, plane: Plane, batch_size: int) -> None:
    if not isinstance(align, Registration) and align not in get_args(Align):
        raise ValueError(f"align must be one of {', '.join(get_args(Align))} or a Registration; found {align!r}.")
    if plane not in PLANES:
        raise ValueError(f"plane must be one of {', '.join(PLANES)}; found {plane!r}.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; found {batch_size}.")


def _run(line: Compose, data: dict[str, Any]) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", line(data))
    except RuntimeError as error:
        # MONAI wraps what a step raises; the reader wants the reason.
        if isinstance(error.__cause__, MedfuseError):
            raise error.__cause__ from None
        raise
