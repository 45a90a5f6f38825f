"""Fuse an MRI with its partner: two volumes in, one `FusedStudy` out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from monai.data.meta_tensor import MetaTensor

from medfuse.errors import MethodError
from medfuse.gesenet.engines import AUTO
from medfuse.intensity import Window
from medfuse.load_study import require_pair
from medfuse.methods.batch_size import DEFAULT_BATCH_SIZE
from medfuse.methods.load import MethodLike, load_method
from medfuse.methods.method import FusionMethod
from medfuse.methods.names import GESENET
from medfuse.pipeline.fused_slices import FusedSlices
from medfuse.pipeline.fused_study import FusedStudy
from medfuse.pipeline.prepare import prepare_pair, require_choices
from medfuse.pipeline.steps import joined_by
from medfuse.provenance import Provenance
from medfuse.registration import Align, Registration
from medfuse.runtime.progress import Progress
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import ColourJoin, Plane, grid_of, meta_of, require_volume, source_of

if TYPE_CHECKING:  # methods that need no network do without it
    from medfuse.gesenet.engines.registry import Engine

DEFAULT_JOIN: ColourJoin = "oklab"


@default_settings()
def fuse(
    mri: MetaTensor,
    partner: MetaTensor,
    *,
    method: MethodLike = GESENET,
    align: Align | Registration = "auto",
    force: bool = False,
    window: str | Window | None = None,
    palette: str | None = None,
    join: ColourJoin = DEFAULT_JOIN,
    plane: Plane = "native",
    weights: str | Path = "default",
    device: str = "auto",
    engine: str | Engine = AUTO,
    batch_size: int = DEFAULT_BATCH_SIZE,
    black_air: bool = False,
    different_patients: bool = False,
    lazy: bool = False,
    progress: Progress | None = None,
) -> FusedStudy:
    """Fuse an MRI with a CT, PET or SPECT study.

    Parameters
    ----------
    mri, partner
        Volumes as `medfuse.load` returns them, (1, X, Y, Z) in their own units; left unchanged. The study looks at them
        again whenever slices or pictures are made: do not change them in place while it is in use.
    method
        What fuses the slices: ``gesenet``, ``max``, ``average``, ``laplacian``, ``guided-filter`` or ``blend``; a name
        that an installed package adds; ``FILE.py:NAME``; a callable, which gets MRI and partner luma, both
        (B, 1, H, W) float32 in [0, 1], and returns the fused luma likewise; or a torch module, called alike in
        evaluation mode and without gradients, and then left as it was. See `medfuse.methods.load_method`.
    align
        ``auto`` trusts a common frame of reference where the pictures agree with it, and else registers rigidly;
        ``header`` trusts the positions in the headers; ``rigid``, ``affine`` and ``deformable`` always register; or a
        registration made before. See `medfuse.register`.
    force
        Fuse even where the pictures say that the result is not aligned; all that is written says so.
    window
        Range of the partner shown: a CT preset's name, ``"LEVEL,WIDTH"`` or a `Window`, in the partner's unit.
    palette
        Colours of the partner; PET and SPECT have ``violet-to-orange`` by default, CT none.
    join
        How a fused slice takes them: ``oklab`` shows the uptake by hue and chroma and the MRI by luma, so that
        both can be read back; ``chroma`` is Eq. 5 of the paper, the fused luma with the partner's chroma. The method
        ``blend`` makes its colours itself.
    plane
        Which slices are fused and written: as acquired, or the nearest axial, coronal or sagittal ones.
    weights
        ``default`` or a weights file, of ``gesenet`` alone; see `medfuse.gesenet.load_network`.
    device
        ``auto``, ``cpu`` or ``cuda``, for networks; a torch module stays where it is, if that is no CPU.
    engine
        How GeSeNet is run: ``auto`` takes the fastest that is installed, other names are those of
        `medfuse.gesenet.load_engine`. An engine loaded before serves many studies; it has its own weights and device.
    batch_size
        Slices at once; halved where memory runs out. It changes the result by float32 rounding only.
    black_air
        Set what lies around the head and shows in neither source to black in both: the noise of air is not fused, and
        engines on a CPU that leave black air out have less to do. See `medfuse.intensity.air_mask`.
    different_patients
        Accept studies whose headers name different patients.
    lazy
        Leave the slices to be fused when they are written, or when `FusedStudy.image` is first asked for. A DICOM
        series is then written while its slices are being fused; without ``keep`` no fused volume is held.
    progress
        Called with the steps ``align``, ``resample`` and ``fuse``.

    Raises
    ------
    StudyError
        If the studies are not an MRI and its partner.
    RegistrationError
        If they cannot be aligned, or the pictures do not confirm it.
    IntensityError, WeightsError, DeviceError
        If window, palette, weights, device or engine are not as asked.
    MethodError
        If there is no such method, what is given does not apply to it, or it fails or gives no fused slices.
    """
    require_volume(mri, "the MRI")
    require_volume(partner, "the partner")
    require_pair(mri, partner, different_patients=different_patients)
    # What is cheap to check is checked before what takes minutes.
    require_choices(mri, partner, align=align, window=window, palette=palette, join=join, plane=plane)
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number from 1; found {batch_size!r}.")
    chosen = load_method(method, weights=weights, engine=engine, device=device, progress=progress)
    require_free_join(chosen, join)
    pair, registration = prepare_pair(
        mri,
        partner,
        align=align,
        force=force,
        window=window,
        palette=palette,
        join=join,
        plane=plane,
        black_air=black_air,
        progress=progress,
    )
    sources = source_of(mri), source_of(partner)
    provenance = Provenance(
        mri_source=sources[0].references if sources[0] else (),
        partner_source=sources[1].references if sources[1] else (),
        partner_modality=meta_of(partner)["modality"],
        registration=registration.to_dict(),
        plane=plane,
        mri_window=pair.mri_window,
        partner_window=pair.partner_window,
        partner_unit=meta_of(partner)["unit"],
        palette=pair.palette,
        colour_join=joined_by(chosen, pair.palette, pair.join),
        method=chosen.to_dict(),
        weights=dict(chosen.weights) if chosen.weights else None,
        engine=chosen.engine,
        black_air=black_air,
        different_patients=different_patients,
        mri_straightened=not grid_of(mri).upright,
        mri_filled_slices=sources[0].filled_slices if sources[0] else 0,
        partner_filled_slices=sources[1].filled_slices if sources[1] else 0,
        partner_suv=partner.meta.get("suv"),
        mri_cut=bool(sources[0] and sources[0].cut),
        partner_cut=bool(sources[1] and sources[1].cut),
        mri_position_error_mm=sources[0].position_error_mm if sources[0] else 0.0,
        partner_position_error_mm=sources[1].position_error_mm if sources[1] else 0.0,
    )
    # What follows is left until the slices are wanted: the two studies are all that is held of them.
    slices = FusedSlices(pair, chosen, batch_size, progress)
    if not lazy:
        slices.keep()
    return FusedStudy(slices, registration, provenance)


def require_free_join(method: FusionMethod, join: ColourJoin) -> None:
    """Raise `MethodError` where a way to join colours is asked for, and the method makes them itself."""
    if method.colour is not None and join != DEFAULT_JOIN:
        raise MethodError(f"the method {method.name} makes its colours itself, not by {join!r}; leave join out.")
