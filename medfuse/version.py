"""Say which version of medfuse is installed; a module of its own, so that `import medfuse` need not look it up."""

from __future__ import annotations

from importlib.metadata import version

__version__: str = version("medfuse")
