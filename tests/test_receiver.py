"""A real archive: Orthanc, alone in a network of its own, gets an export both ways and gives it back."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_send import export

__all__ = ["export"]

PLUGINS = Path("/usr/share/orthanc/plugins")

SCRIPT = """
import json, subprocess, sys, time, urllib.request
from pathlib import Path

import numpy as np
import pydicom
from dicomweb_client.api import DICOMwebClient

from medfuse.dicom.send import send

folder, to = Path(sys.argv[1]), sys.argv[2]
paths = sorted(folder.rglob("*.dcm"))
server = subprocess.Popen(["Orthanc", str(folder.parent / "orthanc.json")], stdout=sys.stderr)
try:
    for _ in range(100):
        try:
            urllib.request.urlopen("http://127.0.0.1:8042/system", timeout=2).read()
            break
        except OSError:
            time.sleep(0.2)
    delivery = send(folder, to)
    assert delivery.complete, {one.detail for one in delivery.parcels}
    client = DICOMwebClient("http://127.0.0.1:8042/dicom-web")
    for path in paths:
        written = pydicom.dcmread(path)
        uids = [str(written[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        back = client.retrieve_instance(*uids, media_types=(("application/dicom", "*"),))
        assert back == written, path.name
        assert "PixelData" not in written or np.array_equal(back.pixel_array, written.pixel_array)
    print(json.dumps({"identical": len(paths)}))
finally:
    server.terminate()
    server.wait(20)
"""


@pytest.mark.slow
@pytest.mark.receiver
@pytest.mark.parametrize("to", ["127.0.0.1:4242/ORTHANC", "http://127.0.0.1:8042/dicom-web"])
def test_orthanc_gives_back_what_it_was_sent(export, to):
    if shutil.which("Orthanc") is None or not (PLUGINS / "libOrthancDicomWeb.so").is_file():
        pytest.skip("Orthanc with its DICOMweb plugin is not installed")
    network = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if subprocess.run([*network, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no network namespace can be made here")
    settings = {
        "StorageDirectory": str(export.parent / "storage"),
        "IndexDirectory": str(export.parent / "storage"),
        "Plugins": [str(PLUGINS / "libOrthancDicomWeb.so")],
        "DicomAlwaysAllowStore": True,
        "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False,
    }
    (export.parent / "orthanc.json").write_text(json.dumps(settings))
    command = [*network, sys.executable, "-c", SCRIPT, export, to]
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"identical": len(list(export.rglob("*.dcm")))}
