"""Run safely and in parallel: atomic output, bounded threads, what the machine is."""
