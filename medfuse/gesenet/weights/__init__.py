"""Trained weights, with the configuration that made them inside the file."""

DEFAULT = "default"
"""The name of the weights that come with medfuse."""
