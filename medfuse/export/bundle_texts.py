"""Write what a MONAI bundle says to people: how it is run, its licence, and the data that it was trained on."""

from __future__ import annotations

from importlib.metadata import distribution
from importlib.resources import files

from medfuse.export.exportable import Exportable
from medfuse.gesenet.loading import weights_sha256
from medfuse.gesenet.network import GeSeNet
from medfuse.gesenet.weights import DEFAULT
from medfuse.provenance import DISCLAIMER, LABELS, software

LICENCE_FILE = "licenses/LICENSE"
"""Where installed packages have it (PEP 639)."""

UNSTATED = (
    "This network was not made by medfuse, which knows neither its licence nor that of the data it was trained on.\n"
    "State both here before you pass this bundle on.\n"
)

OTHER_WEIGHTS = (
    "The network is GeSeNet as medfuse defines it, but these are not the weights that come with medfuse. It knows\n"
    "neither their licence nor that of the data they were trained on.\n"
    "State both here before you pass this bundle on.\n"
)

NOTHING_LEARNT = "This method has learnt nothing from data.\n"

ATLAS = """\
Trained on pictures of the Harvard Whole Brain Atlas (K. A. Johnson and J. A. Becker,
https://www.med.harvard.edu/aanlib/): 6 MRI-CT, 2 MRI-PET and 9 MRI-SPECT patients, 256 x 256 pixels, 8 bit.
The pictures are for research, remain with their owners, and are not part of this bundle. docs/model_card.md says more.
"""

README = """\
# MRI fusion by {label}

**{disclaimer}**

A MONAI bundle that {software} exported. Its network takes MRI slices and the luma of their CT, PET or SPECT slices,
aligned and scaled to [0, 1], and gives the luma of the fused slices.

| | |
|---|---|
| method | {name}{version} |
| weights | {weights} |
| input `image` | (N, 2, H, W) float32 in [0, 1]: channel 0 the MRI, channel 1 the partner's luma |
| output `pred` | (N, 1, H, W) float32 in [0, 1] |
| sizes | {sizes} |

## Run it

```sh
pip install 'medfuse[export]'
cd BUNDLE
python -m monai.bundle run --config_file configs/inference.json --dataset_dir PAIRS --output_dir RESULTS
```

From elsewhere, add `--bundle_root BUNDLE`. PAIRS holds two folders, `mri/` and `partner/`, with files of the same
names:

- 8-bit PNG, BMP, TIFF or JPEG pictures of one size; colours are read as BT.601 luma; or
- NIfTI volumes on one grid with values in [0, 1], which are fused slice by slice along the last axis.

RESULTS gets one `NAME_fused.nii.gz` for each pair: float32 in [0, 1], on the MRI's grid. Of a picture it has the axes
(columns, rows): `nibabel.load(path).get_fdata().squeeze().T` is the picture.

To fuse whole studies, which need registration, windows and colours, use medfuse itself{with_weights}.

## Check it

The first command downloads MONAI's schema into `schema.json`, unless such a file is there.

```sh
python -m monai.bundle verify_metadata --meta_file configs/metadata.json --filepath schema.json
python -m monai.bundle verify_net_in_out --net_id network_def \\
    --meta_file configs/metadata.json --config_file configs/inference.json
```
"""


def readme(wanted: Exportable, sizes: str) -> str:
    """The content of ``docs/README.md``."""
    weights = wanted.weights
    own = isinstance(wanted.network, GeSeNet)
    return README.format(
        label=LABELS.get(wanted.name, wanted.name),
        disclaimer=DISCLAIMER,
        software=software(),
        name=wanted.name,
        version=f" ({wanted.version})" if wanted.version else "",
        weights=f"{weights['name']}, SHA-256 `{weights['sha256']}`" if weights else "none",
        sizes=sizes,
        with_weights=", with these weights: `medfuse fuse MRI PARTNER --weights BUNDLE --out DIR`" if own else "",
    )


def licence(wanted: Exportable) -> str:
    """The content of ``LICENSE``: medfuse's for its own weights."""
    own = is_default(wanted) or wanted.own_function
    return (distribution("medfuse").read_text(LICENCE_FILE) if own else None) or _unstated(wanted)


def data_licence(wanted: Exportable) -> str:
    """The content of ``docs/data_license.txt``."""
    if wanted.own_function:
        return NOTHING_LEARNT
    return ATLAS if is_default(wanted) else _unstated(wanted)


def _unstated(wanted: Exportable) -> str:
    return OTHER_WEIGHTS if isinstance(wanted.network, GeSeNet) else UNSTATED


def model_card(wanted: Exportable) -> str | None:
    """The card of medfuse's own weights; None for others."""
    return (files("medfuse.gesenet.weights") / "README.md").read_text() if is_default(wanted) else None


def is_default(wanted: Exportable) -> bool:
    """Whether the weights are those that come with medfuse."""
    return wanted.weights is not None and wanted.weights["sha256"] == weights_sha256(DEFAULT)
