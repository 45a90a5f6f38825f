"""Define what medfuse raises, as one tree.

    MedfuseError
    ├ SeriesError(ValueError)           the files do not form one volume, or several series answer
    ├ GeometryError(ValueError)         grids disagree; geometry absent or singular
    ├ StudyError(ValueError)            the two studies do not belong together
    ├ IntensityError(ValueError)        what the values mean cannot be told
    ├ RegistrationError(RuntimeError)   the verdict is "not aligned", or nothing tells where a study lies
    ├ TrainingError(ValueError)         settings or pictures that cannot be trained with
    ├ WeightsError(RuntimeError)        the weights are not GeSeNet's, or not safe to read
    ├ MethodError(RuntimeError)         the fusion method is not there, cannot be used so, or gives no fused slices
    ├ CohortError(RuntimeError)         a source of many studies, or its rules, cannot be planned or run
    ├ ExportError(RuntimeError)         the output cannot be written
    └ DeviceError(RuntimeError)         the processor or engine asked for is not there

Every message says what was expected, what was found and what to do; none names a patient.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def counted(number: int, one: str, several: str = "") -> str:
    """Name a number of things for a message.

    >>> counted(1, "file"), counted(2, "file"), counted(0, "copy", "copies")
    ('1 file', '2 files', '0 copies')
    """
    return f"{number} {one if number == 1 else several or one + 's'}"


def found_in_words(value: object) -> str:
    """What was given instead of a name, for a message: words and numbers as they are, of all else the type alone."""
    return repr(value) if isinstance(value, (str, int, float)) else f"an object of type {type(value).__name__}"


def did_you_mean(found: str, names: Iterable[str]) -> str:
    """Ask for the name that is most like what was found, as the end of a message; empty where none is.

    >>> did_you_mean("ridgid", ["rigid", "affine"])
    " Did you mean 'rigid'?"
    """
    close = get_close_matches(found.lower(), [*names], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


class MedfuseError(Exception):
    """The root of every error that medfuse raises on purpose."""


class SeriesError(MedfuseError, ValueError):
    """The files do not form one volume, or several series answer."""


class GeometryError(MedfuseError, ValueError):
    """Grids disagree, or a geometry is absent or singular."""


class StudyError(MedfuseError, ValueError):
    """The two studies do not belong together, or not in this order."""


class IntensityError(MedfuseError, ValueError):
    """What the stored values mean cannot be told, or not as asked."""


class RegistrationError(MedfuseError, RuntimeError):
    """The studies could not be aligned.

    Parameters
    ----------
    message
        Says so.
    found
        What was found and is not believed, as `medfuse.Registration.to_dict` has it; None where nothing was.
    """

    def __init__(self, message: str, found: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.found = found


class TrainingError(MedfuseError, ValueError):
    """The settings, pictures or patients cannot be trained with as asked."""


class WeightsError(MedfuseError, RuntimeError):
    """The weights file is not one of GeSeNet's, or not safe to read."""


class MethodError(MedfuseError, RuntimeError):
    """The fusion method is not there, cannot be used as asked, or gives no fused slices."""


class CohortError(MedfuseError, RuntimeError):
    """A source of many studies, a manifest or its rules cannot be planned or run as asked."""


class ExportError(MedfuseError, RuntimeError):
    """The output cannot be written where and how it was asked for."""


class DeviceError(MedfuseError, RuntimeError):
    """The processor or engine asked for is not there, or has too little memory."""
