"""What every test of the command needs."""

import pytest

from medfuse.gesenet import load_engine


@pytest.fixture(scope="session", autouse=True)
def compiled():
    """The engine compiled ahead, so that no command says on standard error that it compiles."""
    load_engine()
