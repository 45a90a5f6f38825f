"""Whatever stands in the headers, no page, table, ledger, log or picture of a cohort says who the patients are."""

import gzip
import re
from dataclasses import replace

import pydicom
import pytest
from cohort_runs import SETTINGS, results, run
from planted_identity import SECRET, SECRET_ROOT, plant

import medfuse

pytest.importorskip("distributed")


SECRETS = re.compile(rb"%b([0-9A-F]{8}|VENDOR| private)|1941-?06-?12" % SECRET.encode())
"""What is planted; three letters alone stand in packed pixels, too."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Two studies of one patient, the second one a copy that nobody can fuse, with an identity in every element."""
    folder = tmp_path_factory.mktemp("planted")
    medfuse.phantom_study("PT", coarsen=8).write_dicom(folder / "a")
    plant(folder / "a")
    bad = folder / "bad"
    bad.mkdir()
    for path in sorted((folder / "a" / "partner").iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient[2] *= 1 + 0.1 * (dataset.InstanceNumber % 3)
        dataset.save_as(bad / path.name)
    (folder / "plan.csv").write_text("subject,mri,partner,modality\n1,a/mri,a/partner,PT\n2,a/mri,bad,PT\n")
    return folder / "plan.csv"


def contents(folder):
    """The bytes of all files, unpacked, by their places."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            yield path.relative_to(folder).as_posix(), gzip.decompress(content) if path.suffix == ".gz" else content


@pytest.mark.parametrize("deidentify", [True, False], ids=["deidentified", "plain"])
def test_no_identity_is_told(in_process, planted, tmp_path, deidentify, capfd):
    settings = replace(SETTINGS, method="average", report=True, deidentify=deidentify)
    found = run(planted, tmp_path / "out", settings)
    assert results(found) == {"sub-1_pet": "done", "sub-2_pet": "refused"}
    held = dict(contents(tmp_path / "out"))
    names = "\n".join(held)
    assert "index.html" in held
    assert any(name.endswith("_report.html") for name in held)
    assert any(name.endswith("_thumbnail.jpg") for name in held)
    told = "".join(capfd.readouterr()) + names + "".join(outcome.message for outcome in found.values())
    assert not SECRETS.search(told.encode())
    assert [name for name, content in held.items() if SECRETS.search(content)] == []
    if deidentify:
        assert [name for name, content in held.items() if SECRET_ROOT.encode() in content] == []
