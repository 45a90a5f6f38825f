"""Declare options that several commands share, and check what they name."""
