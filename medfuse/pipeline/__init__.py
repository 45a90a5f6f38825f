"""From two volumes to a fused study: the steps of the pipeline, in order, and who calls them."""
