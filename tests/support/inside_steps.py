"""Run beside Orthanc: do the steps of a how-to guide, and say how many instances the archive has then.

Arguments: the folder they are done in, and the steps as a script.
"""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import orthanc

folder, steps = map(Path, sys.argv[1:])
with orthanc.running(folder / "archive"):
    done = subprocess.run(["bash", "-e", steps], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with urllib.request.urlopen(f"{orthanc.ROOT}/instances") as answer:
        instances = len(json.load(answer))
print(json.dumps({"instances": instances, "said": done.stdout.splitlines()}))
