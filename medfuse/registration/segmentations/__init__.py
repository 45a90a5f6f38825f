"""Compare segmentations of two studies under a registration: read, rasterise in world mm, overlap and distances."""
