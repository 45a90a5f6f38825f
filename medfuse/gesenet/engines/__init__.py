"""Run a trained network fast: one interface, several engines."""

AUTO = "auto"

ENGINE_NAMES = ("reference", "masked", "tiled", "half")
