"""
The pipeline as MONAI transforms, with a step of your own
=========================================================

Each step of `medfuse.fuse` is also a MONAI dictionary transform, which calls the same functions. Write the `Compose`
yourself, and any transform can stand between two of ours: one of MONAI's, or your own.
"""

import matplotlib.pyplot as plt
from monai.transforms import Compose, MapTransform

import medfuse
from medfuse.pipeline.transforms import FuseSlicesd, JoinColourd, Registerd, Replaned, ResampleOntod, Scaled, SplitLumad
from medfuse.volume import like, plain

# %%
# A step of your own
# ------------------
#
# A transform takes a dictionary of volumes and returns one. This one hides uptake below a share of the maximum.
# `plain` gives the values without metadata; `like` wraps new values with the grid, modality and source of a volume.
# Change the values of a scaled volume as you like, but stay between 0 and 1.


class HideLowUptaked(MapTransform):
    """Set values below a threshold to 0; the volume is in [0, 1]."""

    def __init__(self, keys, threshold):
        super().__init__(keys)
        self.threshold = threshold

    def __call__(self, data):
        changed = dict(data)
        for key in self.key_iterator(changed):
            values = plain(changed[key])
            changed[key] = like(values.where(values >= self.threshold, 0), changed[key])
        return changed


# %%
# The whole pipeline
# ------------------
#
# The fused volume is the last entry, under ``fused``.

palette = "hot-metal-blue"
pipeline = Compose(
    [
        Registerd(fixed="mri", moving="partner"),
        Replaned("mri", plane="axial"),
        ResampleOntod("partner", onto="mri"),
        Scaled("mri"),
        Scaled("partner"),
        HideLowUptaked("partner", threshold=0.55),
        SplitLumad("partner", luma="luma", palette=palette),
        FuseSlicesd("mri", "luma", fused="fused"),
        JoinColourd("fused", uptake="partner", palette=palette, mri="mri"),
    ]
)
phantom = medfuse.phantom_study("PT", coarsen=3)
data = pipeline({"mri": phantom.mri, "partner": phantom.partner})
print({key: tuple(value.shape) for key, value in data.items() if key != "registration"})

# %%
# The same without that step, for comparison: `medfuse.fuse` with the registration that the pipeline found.

plain_study = medfuse.fuse(phantom.mri, phantom.partner, align=data["registration"], palette=palette, plane="axial")

figure, axes = plt.subplots(1, 2, figsize=(7, 4.6), facecolor="black", layout="constrained")
pictures = {"medfuse.fuse": plain_study.image, "low uptake hidden": data["fused"]}
for axis, (title, volume) in zip(axes, pictures.items(), strict=True):
    axis.imshow(volume.as_tensor()[..., 34].permute(2, 1, 0).numpy())
    axis.set_title(title, color="white")
    axis.set_axis_off()
plt.show()
