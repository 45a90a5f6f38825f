"""A real archive gets an export both ways and gives it back; a real viewer shows it beside its source."""

import pytest
from orthanc import NODE, SERVICE, beside_orthanc, require_orthanc


@pytest.mark.slow
@pytest.mark.receiver
@pytest.mark.parametrize("to", [NODE, SERVICE])
def test_orthanc_gives_back_what_it_was_sent(export, to):
    require_orthanc()
    answer = beside_orthanc("inside_archive.py", export, to, limit_s=300)
    assert answer == {"identical": len(list(export.rglob("*.dcm")))}
