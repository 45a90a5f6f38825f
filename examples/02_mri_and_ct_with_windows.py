"""
MRI and CT: choose the window
=============================

CT values are Hounsfield units (HU). The window decides which of them the network sees: all below it becomes 0, all
above it 1. The same window holds for the whole volume, so brightness never jumps from slice to slice.
"""

import matplotlib.pyplot as plt

import medfuse
from medfuse.intensity import CT_WINDOWS_HU
from medfuse.volume import grid_of

for name, window in CT_WINDOWS_HU.items():
    print(f"{name:12} {window.lower:6.0f} to {window.upper:5.0f} HU")

# %%
# ``head`` is the default: it keeps the brain dark, so that the MRI shows it, and bone bright. ``brain`` is narrow
# enough for the bleeding of the phantom, which is 75 HU in white matter of 28 HU.
#
# The studies are aligned once. The later calls take the registration that the first one found.

phantom = medfuse.phantom_study("CT", coarsen=3)
by_window = {"head": medfuse.fuse(phantom.mri, phantom.partner)}
registration = by_window["head"].registration
for window in ("brain", "bone"):
    by_window[window] = medfuse.fuse(phantom.mri, phantom.partner, align=registration, window=window)

# %%
# Top: the CT through each window, in the slice of the bleeding. Bottom: fused with the MRI. Without a palette the fused
# volume is grey: one channel of numbers between 0 and 1.

k = round(float(grid_of(phantom.mri).index(phantom.landmarks["lesion"])[2]))
figure, axes = plt.subplots(2, 3, figsize=(9, 7.6), facecolor="black", layout="constrained")
for (above, below), (window, study) in zip(axes.T, by_window.items(), strict=True):
    above.imshow(study.partner.as_tensor()[0, ..., k].T.numpy(), cmap="gray", vmin=0, vmax=1)
    below.imshow(study.image.as_tensor()[0, ..., k].T.numpy(), cmap="gray", vmin=0, vmax=1)
    above.set_title(f"CT, {window}", color="white")
    below.set_title("fused", color="white")
    above.set_axis_off()
    below.set_axis_off()
plt.show()

# %%
# A window of your own is a level and a width, or two limits.

stroke = medfuse.Window.from_level(level=35, width=30)
study = medfuse.fuse(phantom.mri, phantom.partner, align=registration, window=stroke)
print(study.provenance.partner_window)
