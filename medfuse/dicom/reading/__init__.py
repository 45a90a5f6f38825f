"""Read a series into a volume: pixels, units, SUV."""
