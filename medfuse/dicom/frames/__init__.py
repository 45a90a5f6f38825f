"""Take DICOM files apart into frames, one module a form (`forms` lists them), and stack frames to a volume."""
