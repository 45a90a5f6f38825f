"""
Fuse the phantom and look at it
===============================

The phantom is a digital head, seen by an MRI scanner and by a PET scanner. The two studies have different world
coordinates, as those of a patient who was scanned twice. `medfuse.fuse` aligns them, brings the PET onto the
MRI's grid by one interpolation, fuses slice by slice with GeSeNet and gives the result the colours of the PET.
"""

import matplotlib.pyplot as plt

import medfuse
from medfuse.volume import grid_of

phantom = medfuse.phantom_study("PT", coarsen=3)
print("MRI:", grid_of(phantom.mri))
print("PET:", grid_of(phantom.partner), phantom.partner.meta["unit"])

# %%
# One call fuses. Both volumes are left as they were.

study = medfuse.fuse(phantom.mri, phantom.partner)
print(study)
print(study.registration)

# %%
# ``study.image`` holds the fused volume on the MRI's grid: three channels of 8 bits here, since PET is shown in a
# palette. The lesion is a hot spot that only the PET shows; the phantom knows where it is.
#
# A volume has the axes (channel, x, y, z). For a picture, rows come first and channels last. Take the plain tensor
# before you slice: a slice of a `MetaTensor` keeps an affine that is no longer true.

k = round(float(grid_of(study.image).index(phantom.landmarks["lesion"])[2]))

figure, axes = plt.subplots(1, 3, figsize=(9, 4), facecolor="black", layout="constrained")
for axis, title, volume in zip(axes, ("MR", "PT", "fused"), (study.mri, study.partner, study.image), strict=True):
    axis.imshow(volume.as_tensor()[..., k].permute(2, 1, 0).numpy(), cmap="gray")
    axis.set_title(title, color="white")
    axis.set_axis_off()
plt.show()

# %%
# The provenance says what was done. It names no patient.

print(study.provenance.sentence())

# %%
# In a notebook, a fused study is displayed in three planes. Here in another palette, with the registration found above.

medfuse.fuse(phantom.mri, phantom.partner, align=study.registration, palette="pet")
