"""Align studies away from the head: bounded search near the headers, and a verdict that may say it cannot tell."""
