"""Run where a file system may be mounted: fuse the study ``sys.argv[1]`` onto disks of ``sys.argv[3:]`` bytes.

Each disk is mounted on ``sys.argv[2]``. Prints a list: exit code, message, and what is left on the disk.
"""

import json
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from medfuse.cli import app

study, disk = Path(sys.argv[1]), Path(sys.argv[2])
told = []
for size in sys.argv[3:]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)], check=True)
    arguments = ["fuse", study / "mri", study / "partner", "--out", disk / "out", "--align", "header", "--with-partner"]
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    left = sorted(str(path.relative_to(disk)) for path in disk.rglob("*") if path.is_file())
    told.append({"code": done.exit_code, "message": done.stderr, "left": left})
    subprocess.run(["umount", str(disk)], check=True)
print(json.dumps(told))
