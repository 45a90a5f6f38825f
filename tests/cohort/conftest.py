import pytest
from cohort_runs import in_process, write_cohort

__all__ = ["in_process"]


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """A plan of three small studies: PET, CT, PET."""
    return write_cohort(tmp_path_factory.mktemp("cohort"))
