"""``python -m medfuse`` is the command."""

from medfuse.cli import main

main()
