"""Decode files of pictures, grey or colour, frame by frame: nothing unchecked reaches a native decoder here either."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, RLELossless

from medfuse.dicom.encoding.claimed_size import require_claimed_size
from medfuse.dicom.encoding.codestream import CodestreamError, check_codestream
from medfuse.dicom.encoding.decode import DECODERS, NATIVE
from medfuse.dicom.encoding.encapsulated import Fragment, FramesError, frame_fragments, read_frame
from medfuse.dicom.encoding.pixel_format import refusal
from medfuse.dicom.header import Instance, said, transfer_syntax


class StoredPicture:
    """The pictures of one file.

    Raises
    ------
    NoVolumeError
        If its pixels are absent or cannot be decoded.
    SeriesError
        If it claims far more than it can hold.
    """

    def __init__(self, instance: Instance, name: str) -> None:
        self.instance, self.name = instance, name
        self.syntax = transfer_syntax(instance)
        self._fragments: list[list[Fragment]] = []
        header, pixels = instance.header, instance.pixels
        if pixels is None:
            raise refusal("no pixels", instance, name, "Pixel Data (7FE0,0010) is absent, or holds no whole numbers")
        try:
            self.rows, self.columns = int(header.Rows), int(header.Columns)
            self.samples, self.allocated = int(header.get("SamplesPerPixel") or 1), int(header.BitsAllocated)
        except (AttributeError, TypeError, ValueError) as error:
            raise refusal("pixels not described", instance, name, "Rows, Columns or BitsAllocated is absent") from error
        require_claimed_size(
            [(instance, instance.frames * self.rows * self.columns * self.samples * self.allocated // 8)], name
        )
        if self.syntax in NATIVE:
            return
        try:
            if self.syntax not in DECODERS:
                raise CodestreamError("a transfer syntax that is not read")
            with instance.path.open("rb") as stream:
                self._fragments = frame_fragments(stream, pixels, header, instance.frames)
        except (FramesError, CodestreamError, EOFError) as error:
            raise self._damaged(error) from error

    def frame(self, index: int) -> npt.NDArray[Any]:
        """The picture of a frame from 0, (rows, columns) or (rows, columns, samples); colours are RGB."""
        if self.syntax in NATIVE:
            return np.asarray(pixel_array(self.instance.path, index=index))
        try:
            codestream = self._codestream(index)
        except (FramesError, CodestreamError, EOFError) as error:
            raise self._damaged(error) from error
        values, _ = get_decoder(UID(self.syntax)).as_array(
            encapsulate([codestream], has_bot=False), index=0, decoding_plugin=DECODERS[self.syntax], **self._options()
        )
        return np.asarray(values)

    def _options(self) -> dict[str, Any]:
        """What pydicom is told of one frame."""
        header = self.instance.header
        return {
            "rows": self.rows,
            "columns": self.columns,
            "number_of_frames": 1,
            "samples_per_pixel": self.samples,
            "planar_configuration": int(header.get("PlanarConfiguration") or 0),
            "photometric_interpretation": said(header, "PhotometricInterpretation"),
            "bits_allocated": self.allocated,
            "bits_stored": int(header.get("BitsStored") or self.allocated),
            "pixel_representation": int(header.get("PixelRepresentation") or 0),
        }

    def _codestream(self, index: int) -> bytes:
        """A whole frame that claims the size and the bits that the header says."""
        with self.instance.path.open("rb") as stream:
            content = read_frame(stream, self._fragments[index])
        found = check_codestream(content, self.syntax)
        if self.syntax == RLELossless:
            agrees = found.components * 8 == self.samples * self.allocated
        else:
            agrees = (found.rows, found.columns, found.components) == (self.rows, self.columns, self.samples)
            agrees = agrees and found.precision <= self.allocated
        if not agrees:
            raise CodestreamError("another size than Rows, Columns, SamplesPerPixel and BitsAllocated say")
        return content

    def _damaged(self, error: Exception) -> Exception:
        kind = UID(self.syntax).name
        return refusal("compressed pixels damaged", self.instance, self.name, f"no sound {kind} codestreams: {error}")
