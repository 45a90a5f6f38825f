"""Run beside Orthanc: send a folder to ``sys.argv[2]``, get every instance back, and say how many are identical."""

import json
import sys
from pathlib import Path

import numpy as np
import orthanc
import pydicom
from dicomweb_client.api import DICOMwebClient

from medfuse.archive.send import send

folder, to = Path(sys.argv[1]), sys.argv[2]
paths = sorted(folder.rglob("*.dcm"))
with orthanc.running(folder.parent / "archive"):
    delivery = send(folder, to)
    assert delivery.complete, {one.detail for one in delivery.transfers}
    client = DICOMwebClient(orthanc.SERVICE)
    for path in paths:
        written = pydicom.dcmread(path)
        uids = [str(written[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        back = client.retrieve_instance(*uids, media_types=(("application/dicom", "*"),))
        assert back == written, path.name
        assert "PixelData" not in written or np.array_equal(back.pixel_array, written.pixel_array)
print(json.dumps({"identical": len(paths)}))
