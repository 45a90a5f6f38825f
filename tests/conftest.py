"""What every test may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

# Small volumes gain nothing from threads, and two test runs side by side lose much.
torch.set_num_threads(1)

SHARED = Path(__file__).parents[2] / "shared" / "data"


collect_ignore_glob = ["support/fuzz.py", "support/inside_*.py"]
"""Programs of their own, started by tests or by tox: not to be imported where doctests are looked for."""


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data, where this checkout has it."""
    if not SHARED.is_dir():
        pytest.skip("the shared data folder is absent")
    return SHARED
