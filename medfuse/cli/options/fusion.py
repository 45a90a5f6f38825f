"""Declare the options of how a pair is read and fused, which several commands share, and do what they ask for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, cast

import typer

import medfuse
from medfuse.cli.options.choices import JoinName, Way, choosing
from medfuse.cli.options.values import known_palette, known_weights, known_window
from medfuse.errors import did_you_mean
from medfuse.intensity import CT_WINDOWS_HU
from medfuse.registration.files.suffixes import READ_SUFFIXES
from medfuse.runtime.output.place import shown
from medfuse.runtime.progress import Progress, part_of
from medfuse.volume import MRI, PALETTES, PARTNERS

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

    from medfuse.cli.options.pair import Pair
    from medfuse.registration import Align


def known_alignment(align: str) -> str:
    """Pass on a way to align or the path of a file that is there; a usage error for anything else."""
    ways = [way.value for way in Way]
    if align not in ways and not (align and Path(align).exists()):
        raise typer.BadParameter(
            f"expected {', '.join(ways)} or a registration file; there is no file {shown(align)!r}."
            f"{did_you_mean(align, ways)}"
        )
    return align


MriPath = Annotated[
    Path,
    typer.Argument(
        help="A DICOM folder or archive, or a NIfTI file; or a folder of both.", metavar="MRI", show_default=False
    ),
]
PartnerPath = Annotated[
    Path | None,
    typer.Argument(help="Its CT, PET or SPECT, in the same forms.", metavar="[PARTNER]", show_default=False),
]
AlignHow = Annotated[
    str,
    typer.Option(
        help=f"{', '.join(Way)}, or a registration FILE (.tfm, .h5, .mat, .txt, or DICOM).",
        metavar="HOW",
        callback=known_alignment,
    ),
]
WindowShown = Annotated[
    str | None,
    typer.Option(
        help=f"Partner values shown: LEVEL,WIDTH, a largest value, or, for CT, one of {', '.join(CT_WINDOWS_HU)}.",
        callback=known_window,
    ),
]
PaletteName = Annotated[
    str | None,
    typer.Option(
        help=f"Colours of the partner: {', '.join(PALETTES)}. PET and SPECT: violet-to-orange; CT: none.",
        callback=known_palette,
    ),
]
Join = Annotated[
    JoinName, typer.Option(help="How slices take them: oklab (hue tells the uptake), or chroma (Eq. 5 of the paper).")
]
Weights = Annotated[
    str, typer.Option(help="Weights of gesenet: default, or a weights file.", metavar="FILE", callback=known_weights)
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
MriSeries = Annotated[
    str | None,
    typer.Option(
        help="Number or UID of the MRI series, where the folder holds several; NUMBER:2 for its second volume."
    ),
]
PartnerSeries = Annotated[str | None, typer.Option(help="The same for the partner.")]
MriVolume = Annotated[int | None, typer.Option(min=0, help="Which volume of a 4-D NIfTI MRI, counted from 0.")]
PartnerVolume = Annotated[int | None, typer.Option(min=0, help="The same for the partner.")]

Alignment: TypeAlias = "Align | medfuse.Registration | Path"


def alignment_given(align: str) -> Alignment:
    """A way to align, a registration, or the path of a DICOM one, which is read once the two studies are known."""
    if align in list(Way):
        return cast("Align", align)
    return medfuse.Registration.load(align) if Path(align).suffix in READ_SUFFIXES else Path(align)


def alignment_of(given: Alignment, mri: MetaTensor, partner: MetaTensor) -> Align | medfuse.Registration:
    """What `alignment_given` found, for two studies."""
    return medfuse.Registration.load(given, mri, partner) if isinstance(given, Path) else given


def _is_coloured(path: Path) -> bool:
    from medfuse import nifti

    return nifti.is_nifti(path) and nifti.holds_colours(path)


def load_pair(
    pair: Pair,
    modality: str | None,
    volumes: tuple[int | None, int | None],
    luma: bool,
    accepted: tuple[bool, bool],
    progress: Progress,
) -> tuple[MetaTensor, MetaTensor]:
    """Load the MRI and its partner; ``accepted`` holds whether gaps are filled, and whether cut series are taken."""
    wanted = [one for one in PARTNERS if modality in (None, one)]
    grey = [luma and isinstance(path, Path) and _is_coloured(path) for path in (pair.mri, pair.partner)]
    if luma and not any(grey):
        raise typer.BadParameter(
            "--luma says how colours of NIfTI are read, but neither study holds colours; leave it out: values are read "
            "as they are."
        )
    halves = part_of(progress, 0, 0.5, "MRI"), part_of(progress, 0.5, 1, "partner")
    read = partial(medfuse.load, fill_gaps=accepted[0], accept_cut=accepted[1])
    with choosing("--mri-series"):
        mri = read(pair.mri, MRI, pair.mri_series, volume=volumes[0], luma=grey[0], progress=halves[0])
    with choosing("--partner-series"):
        other = read(pair.partner, wanted, pair.partner_series, volume=volumes[1], luma=grey[1], progress=halves[1])
    return mri, other
