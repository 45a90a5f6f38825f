"""Find DICOM files, read their headers, and group them into series and volumes."""
