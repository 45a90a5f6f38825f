"""Write a volume as a DICOM series: image modules, identity, references, compression."""
