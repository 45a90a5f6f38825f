"""Trained weights, with the configuration that made them inside each file."""
