"""Run a trained network fast: one interface, several engines."""
