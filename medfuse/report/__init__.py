"""Draw figures for people: studies, alignments, training curves, benchmarks."""
