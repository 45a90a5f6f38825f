"""A real archive gets an export both ways and gives it back; a real viewer shows it beside its source."""

import pytest
from orthanc import NODE, SERVICE, beside_orthanc, require_orthanc
from pages import ROOT, steps_of

PLACES = {"archive.example:104/ARCHIVE": NODE, "https://archive.example/dicom-web": SERVICE}
"""What the how-to guide calls an archive, and where one is here."""


@pytest.mark.slow
@pytest.mark.receiver
@pytest.mark.parametrize("to", [NODE, SERVICE])
def test_orthanc_gives_back_what_it_was_sent(export, to):
    require_orthanc()
    answer = beside_orthanc("inside_archive.py", export, to, limit_s=300)
    assert answer == {"identical": len(list(export.rglob("*.dcm")))}


@pytest.mark.slow
@pytest.mark.receiver
def test_the_steps_of_the_guide_bring_an_export_to_an_archive(export, tmp_path):
    require_orthanc()
    steps = steps_of(ROOT / "docs" / "how-to" / "send-to-an-archive.md")
    for name, place in PLACES.items():
        assert name in steps
        steps = steps.replace(name, place)
    export.rename(tmp_path / "RESULTS")
    (tmp_path / "steps.sh").write_text(steps)
    answer = beside_orthanc("inside_steps.py", tmp_path, tmp_path / "steps.sh", limit_s=300)
    assert answer["instances"] == len(list((tmp_path / "RESULTS").rglob("*.dcm")))
    assert sum("sent" in line for line in answer["said"]) == 2 * len(list((tmp_path / "RESULTS").iterdir()))
