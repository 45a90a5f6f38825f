"""Speak to a notebook: HTML tables, and bars that show how far a step is."""
