import shutil

import pytest
from cohort_runs import NAMES, InProcess, in_process, results, run, write_cohort

__all__ = ["in_process"]


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """A plan of three small studies: PET, CT, PET."""
    return write_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="session")
def done_once(cohort, tmp_path_factory):
    """The results of one undisturbed run: to be copied, not changed."""
    pytest.importorskip("distributed")
    from medfuse.cohort.running import children

    out = tmp_path_factory.mktemp("done") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(children, "Child", InProcess)
        assert results(run(cohort, out)) == dict.fromkeys(NAMES, "done")
    return out


@pytest.fixture
def out(done_once, tmp_path):
    return shutil.copytree(done_once, tmp_path / "out")
