"""Plan the fusions of many studies, run them, and say how far they are: ``medfuse cohort``, one module a command."""
