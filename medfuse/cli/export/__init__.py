"""Write a fusion network for other programs: ``medfuse export``."""
