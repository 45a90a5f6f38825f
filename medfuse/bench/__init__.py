"""Measure how fast the engines are on this machine, and against what."""
