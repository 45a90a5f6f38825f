"""Say why files form no volume: in a sentence where it is raised, in a few words where series are listed."""

from __future__ import annotations

from medfuse.errors import GeometryError, SeriesError


class NoVolumeError(SeriesError):
    """The files do not form one volume.

    ``brief`` says why in a few words, ``missing`` counts the slices that seem not to be there.
    """

    def __init__(self, brief: str, message: str, missing: int = 0) -> None:
        super().__init__(message)
        self.brief = brief
        self.missing = missing


def no_volume(error: Exception, name: str) -> NoVolumeError:
    """Whatever went wrong with a series, in the one form that lists and messages take it from."""
    if isinstance(error, NoVolumeError):
        return error
    if isinstance(error, SeriesError):
        return NoVolumeError("header cannot be interpreted", str(error))
    if isinstance(error, GeometryError):
        return NoVolumeError("no usable geometry", f"{name} has no usable geometry: {error}")
    # Values that are no numbers fail where they are first read, in many ways.
    return NoVolumeError(
        "header cannot be interpreted",
        f"the header of {name} cannot be interpreted ({type(error).__name__}). Export the series again.",
    )
