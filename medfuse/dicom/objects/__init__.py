"""Read and write objects that are no images: registrations, presentation states, DICOMDIR."""
