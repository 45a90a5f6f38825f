"""Trained weights, with the configuration that made them inside the file."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

from medfuse.errors import WeightsError
from medfuse.runtime.output.place import shown

DEFAULT = "default"
"""The name of the weights that come with medfuse."""

MOST_BYTES = 2**26
"""No GeSeNet is larger, by far: neither a file nor what is packed in it is read beyond."""

GIVE = "give a .safetensors file that `medfuse train` wrote, or the published GeSeNet.pth."


BUNDLED = "models/model.safetensors"
"""Where a MONAI bundle that medfuse exported has its weights."""


def require_weights(weights: str | Path) -> None:
    """Raise `WeightsError` unless weights are the packaged ones or a file, of a size that weights may have."""
    if str(weights) != DEFAULT:
        weights_file(weights)


def weights_file(weights: str | Path) -> Path:
    """The file that is meant, of a bundle the one inside; `WeightsError` where there is none that can be weights."""
    path = Path(weights)
    found = "nothing"
    try:
        about = path.stat()
        if stat.S_ISDIR(about.st_mode) and (path / BUNDLED).is_file():
            path /= BUNDLED
            about = path.stat()
        if stat.S_ISREG(about.st_mode):
            if about.st_size > MOST_BYTES:
                raise WeightsError(f"{shown(path)} has {about.st_size / 2**20:.0f} MiB, too many for a GeSeNet; {GIVE}")
            return path
        found = "a folder" if stat.S_ISDIR(about.st_mode) else "a device or a pipe"
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            found = (error.strerror or type(error).__name__).lower()
    except ValueError:
        found = "a path with a NUL character"
    raise WeightsError(
        f"there is no weights file {shown(path)} (found {found}); give a .safetensors or .pth file, or {DEFAULT!r}."
    )
