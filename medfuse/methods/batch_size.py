"""Say how many slices are fused at once where nobody says it."""

DEFAULT_BATCH_SIZE = 4
