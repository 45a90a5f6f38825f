"""
Write a DICOM series and look inside
====================================

From two DICOM folders to a third: load, fuse, write, and see what a viewer will find in the new series.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pydicom

import medfuse
from medfuse import dicom
from medfuse.volume import grid_of

workplace = tempfile.TemporaryDirectory()
folder = Path(workplace.name)

# %%
# The phantom's studies as scanners would have sent them: one file a slice, two series in one study.

medfuse.phantom_study("PT", coarsen=3).write_dicom(folder / "study")
for series in dicom.scan(folder / "study").series:
    print(f"series {series.number}: {series.modality}, {len(series.instances)} files, {series.grid}")

# %%
# Load, fuse and write. The output folder appears when it is complete, or not at all. It must not lie in an input
# folder, and nothing is replaced unless ``overwrite=True`` says so.

mri = medfuse.load(folder / "study" / "mri")
pet = medfuse.load(folder / "study" / "partner")
study = medfuse.fuse(mri, pet)
study.write_dicom(folder / "fused")
files = sorted((folder / "fused").iterdir())
print(len(files), "files,", files[0].name, "to", files[-1].name)

# %%
# Colour is written as Secondary Capture: 8-bit RGB with its place in the patient. Identity is the MRI's; series and
# instances are new.

header = pydicom.dcmread(files[20])
for keyword in (
    "SOPClassUID",
    "ImageType",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "PhotometricInterpretation",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PatientOrientation",
    "DerivationDescription",
):
    print(header[keyword])

# %%
# Every slice says which slices of the two sources it was made from, and whether their places were kept.

for source in header.SourceImageSequence:
    print(source.ReferencedSOPClassUID.name, "… places kept:", source.SpatialLocationsPreserved)

# %%
# Geometry is written from the grid. DICOM counts millimetres to the patient's left and back (LPS), medfuse to the right
# and front (RAS), so x and y change sign.

position = np.array(header.ImagePositionPatient, dtype=float) * (-1, -1, 1)
print("RAS mm:", position, "index:", grid_of(study.image).index(position).round(3))

# %%
# The pixels are those of the fused volume.

plt.figure(figsize=(4, 4.8), facecolor="black", layout="constrained")
plt.imshow(header.pixel_array)
plt.axis("off")
plt.show()

# %%
workplace.cleanup()
