"""
Register once, save the alignment, use it again
===============================================

A `Registration` maps points of the MRI to points of the partner: fixed → moving, in RAS+ mm. It can be made, assessed
and stored without fusing.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import medfuse
from medfuse.intensity import outside_value
from medfuse.registration import resample
from medfuse.volume import grid_of

phantom = medfuse.phantom_study("CT", coarsen=3)
found = medfuse.register(phantom.mri, phantom.partner)
print(found)
for name, value in found.scores.items():
    print(f"{name:42} {value:.3f}")

# %%
# The phantom knows the true map, so the error can be measured: at each landmark, the distance between where the
# registration puts it in the CT and where it really is. Voxels are 3 mm and more here.

true = medfuse.Registration(phantom.truth, "file")
for name, place in phantom.landmarks.items():
    point = np.append(place, 1)
    error = np.linalg.norm((found.matrix @ point - true.matrix @ point)[:3])
    print(f"{name:10} {error:.2f} mm")

# %%
# A file with the suffix ``.tfm`` is an ITK transform, which other programs read; ``.txt`` holds the sixteen numbers of
# the matrix.

with tempfile.TemporaryDirectory() as folder:
    path = found.save(Path(folder) / "mri-to-ct.tfm")
    print(path.read_text())
    loaded = medfuse.Registration.load(path)
print("largest difference after loading:", np.abs(loaded.matrix - found.matrix).max())

# %%
# A registration given to `medfuse.fuse` is taken as it is.

study = medfuse.fuse(phantom.mri, phantom.partner, align=loaded)
print(study.registration.method, "→", study)

# %%
# Seen by eye: the CT on the MRI's grid, before and after alignment, as a red outline of the bone over the MRI.

grid = grid_of(phantom.mri)
figure, axes = plt.subplots(1, 2, figsize=(7, 4.6), facecolor="black", layout="constrained")
for axis, title, registration in zip(axes, ("as the headers say", "registered"), (None, loaded), strict=True):
    ct = resample(phantom.partner, grid, registration, outside=outside_value(phantom.partner))
    axis.imshow(phantom.mri.as_tensor()[0, ..., 30].T.numpy(), cmap="gray")
    axis.contour(ct.as_tensor()[0, ..., 30].T.numpy(), levels=[400], colors="red", linewidths=0.8)
    axis.set_title(title, color="white")
    axis.set_axis_off()
plt.show()
