"""Run the command as ``python -m medfuse``."""

from medfuse.cli import main

main()
