"""Plan and run cohorts, and say how far they are: ``medfuse cohort``; one module a command."""
