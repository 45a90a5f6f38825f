"""Make training pairs of simulated heads: of the phantom, and deformed from a brain atlas."""
