"""Fuse two volumes: the steps of the pipeline, in order, and what calls them."""
