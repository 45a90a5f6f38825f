"""Orthanc, alone in a network of its own: nobody else reaches it, and whatever runs beside it reaches nobody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PLUGINS = Path("/usr/share/orthanc/plugins")
NODE = "127.0.0.1:4242/ORTHANC"
ROOT = "http://127.0.0.1:8042"
SERVICE = f"{ROOT}/dicom-web"

NETWORK = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def require_orthanc() -> None:
    """Skip the test, with the reason, where there is no Orthanc or no network to put it into."""
    if shutil.which("Orthanc") is None or not (PLUGINS / "libOrthancDicomWeb.so").is_file():
        pytest.skip("Orthanc with its DICOMweb plugin is not installed (Debian: orthanc, orthanc-dicomweb)")
    if subprocess.run([*NETWORK, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no network namespace can be made here")


def beside_orthanc(script: str, *arguments: object, limit_s: float) -> dict[str, object]:
    """Run a script of this folder in a fresh network and return the JSON of its last line."""
    command = [*NETWORK, sys.executable, Path(__file__).with_name(script), *arguments]
    # Steps of the documentation call `medfuse`, which lies beside this Python.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        [str(one) for one in command],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=limit_s,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Orthanc from here to the end of the block, its storage in ``folder``; for scripts in that network."""
    folder.mkdir()
    settings = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "Plugins": [str(PLUGINS / "libOrthancDicomWeb.so")],
        "DicomAlwaysAllowStore": True,
        "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    server = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=sys.stderr)
    try:
        _wait_for(server)
        yield
    finally:
        server.terminate()
        server.wait(20)


def _wait_for(server: subprocess.Popen[bytes], limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"{ROOT}/system", timeout=2).read()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("Orthanc did not start")
