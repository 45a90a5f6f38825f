"""Take a DICOM file apart into frames, and put frames in order: classic, enhanced, nuclear medicine, mosaics."""
