"""Check the pixels of a file, and decode them frame by frame: nothing unchecked reaches a native decoder."""

from __future__ import annotations

from contextlib import ExitStack
from io import BytesIO
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from medfuse.dicom.encoding.codestream import Codestream, CodestreamError, check_codestream, read_codestream
from medfuse.dicom.encoding.encapsulated import Fragment, FramesError, frame_fragments, read_frame
from medfuse.dicom.encoding.pixel_format import PixelFormat, Words, pixel_format, refusal, require_grey, stored_values
from medfuse.dicom.header import UNCOMPRESSED, Instance, PixelElement, transfer_syntax

NATIVE = (*UNCOMPRESSED, DeflatedExplicitVRLittleEndian)

DECODERS: dict[str, str] = {
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "pillow",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
    RLELossless: "pydicom",
}
"""The one decoder of each transfer syntax, as pydicom names it: of those that there are, the one that no damage to
codestreams ended the process with."""


def check_pixels(instance: Instance, name: str) -> PixelFormat:
    """Check all that the header, the sizes and the first codestream's header tell of a file's pixels.

    Where bits that values do not have may be in use, as the header says it, all values are decoded.

    Raises
    ------
    NoVolumeError
        If they contradict each other, or cannot be decoded to measured values.
    """
    with StoredPixels(instance, name) as pixels:
        if pixels.doubtful:
            for index in range(pixels.layout.frames):
                pixels.frame(index)
        return pixels.layout


class StoredPixels:
    """The stored values of one file, open for reading frame by frame; raises as `check_pixels` where it is opened."""

    def __init__(self, instance: Instance, name: str) -> None:
        self.instance = instance
        self.name = name
        if instance.pixels is None:
            require_grey(instance, name)
            raise self._refusal(
                "no pixels",
                "Pixel Data (7FE0,0010) is absent; Float and Double Float Pixel Data (7FE0,0008 and 0009) are not read",
            )
        self.element: PixelElement = instance.pixels
        self.layout = pixel_format(instance, name)
        self.syntax = transfer_syntax(instance)
        self.doubtful = self.layout.unused_below > 0
        self._fragments: list[list[Fragment]] = []
        self._stack = ExitStack()
        self._stream: BinaryIO | None = None
        try:
            if self.syntax in NATIVE:
                self._require_size()
            else:
                self._require_decodable()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> StoredPixels:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
        self._stream = None

    def frame(self, index: int) -> Words:
        """Stored values of a frame from 0, (rows, columns), of the sign that PixelRepresentation says."""
        cells = self._cells(index) if self.syntax in NATIVE else self._decoded(index)
        return cells.reshape(self.layout.rows, self.layout.columns)

    def _refusal(self, brief: str, found: str) -> Exception:
        return refusal(brief, self.instance, self.name, found)

    @property
    def stream(self) -> BinaryIO:
        """The file, or what it inflates to, opened where it is first needed."""
        if self._stream is None:
            if self.element.deflated:
                value = dcmread(self.instance.path).PixelData
                self._stream = BytesIO(value)
            else:
                self._stream = self._stack.enter_context(self.instance.path.open("rb"))
        return self._stream

    def _require_size(self) -> None:
        """Raise where uncompressed pixels are not as many bytes as Rows, Columns, BitsAllocated and frames say."""
        element, layout = self.element, self.layout
        if element.length is None:
            raise self._refusal(
                "not uncompressed", f"the transfer syntax says {UID(self.syntax).name}, but Pixel Data is encapsulated"
            )
        expected = layout.frames * layout.frame_bytes
        # An odd length lacks its padding in some files; a little more is padding, a row or column more is not.
        most = expected + max(min(layout.rows, layout.columns) * layout.allocated // 8, 2) - 1
        found = min(element.length, element.available)
        if not (expected <= found and element.length <= most):
            cut = element.length > element.available
            raise self._refusal(
                "cut short" if cut else "pixels do not fit the header",
                f"Pixel Data has {found} bytes{', for the file is cut short' if cut else ''}, but Rows {layout.rows}, "
                f"Columns {layout.columns}, BitsAllocated {layout.allocated} and NumberOfFrames {layout.frames} need "
                f"{expected}",
            )

    def _cells(self, index: int) -> Words:
        """One frame of uncompressed pixels."""
        layout, element = self.layout, self.element
        start, count = element.start + index * layout.frame_bytes, layout.frame_bytes
        # 8-bit pixels in big-endian words stand in pairs, exchanged (PS3.5 8.1.1, annex A of its 2016 edition).
        paired = not element.little and layout.allocated == 8 and element.kind == "OW"
        before = (start - element.start) % 2 if paired else 0
        content = np.empty(before + count + ((before + count) % 2 if paired else 0), dtype=np.uint8)
        self.stream.seek(start - before)
        if self.stream.readinto(content.data) < before + count:  # type: ignore[attr-defined]
            raise self._refusal("cut short", "Pixel Data has fewer bytes than it says")
        if paired:
            content = content.reshape(-1, 2)[:, ::-1].reshape(-1)[before : before + count].copy()
        kind = np.dtype(f"{'<' if element.little else '>'}{'i' if layout.signed else 'u'}{layout.allocated // 8}")
        cells = content.view(kind).astype(kind.newbyteorder("="), copy=False)
        return stored_values(cells, layout, self.instance, self.name)

    def _require_decodable(self) -> None:
        """Raise where there is no decoder, fragments are no frames, or the first frame is not what the header says."""
        plugin = DECODERS.get(self.syntax)
        if plugin is None or plugin not in get_decoder(self.syntax).available_plugins:
            absent = f" without {plugin}, which is not installed" if plugin else ""
            raise self._refusal(
                "transfer syntax not read", f"the transfer syntax {UID(self.syntax).name} cannot be decoded{absent}"
            )
        if self.layout.unused_below and self.syntax != RLELossless:
            raise self._refusal(
                "contradicting pixel description",
                f"HighBit is {self.layout.high} and BitsStored {self.layout.stored}, but compressed values have no "
                "unused bits below them",
            )
        try:
            self._fragments = frame_fragments(self.stream, self.element, self.instance.header, self.layout.frames)
            first = self._fragments[0]
            # Most headers end within the first fragment; where one does not, all of the frame is read.
            content = BytesIO(read_frame(self.stream, first)) if len(first) > 1 else self.stream
            content.seek(0 if len(first) > 1 else first[0].start)
            found = read_codestream(content, sum(one.length for one in first), self.syntax)
            self._require_agreement(found)
            self.doubtful = self.doubtful or self._is_wider(found)
        except (FramesError, CodestreamError, EOFError) as error:
            raise self._damaged(0, error) from error

    def _damaged(self, index: int, error: Exception) -> Exception:
        if isinstance(error, FramesError):
            return self._refusal("frames missing or damaged", str(error))
        kind = UID(self.syntax).name
        return self._refusal(
            "compressed pixels damaged", f"frame {index + 1} is no sound {kind} codestream: it has {error}"
        )

    def _require_agreement(self, found: Codestream) -> None:
        """Raise where a codestream claims another picture than the header."""
        layout = self.layout
        if self.syntax == RLELossless:
            agrees = found.components * 8 == layout.allocated
            claims, states = f"{found.components} RLE segments", f"BitsAllocated is {layout.allocated}"
        elif (found.rows, found.columns, found.components) != (layout.rows, layout.columns, 1):
            agrees = False
            claims = f"{found.rows} rows, {found.columns} columns and {found.components} component(s)"
            states = f"Rows, Columns and SamplesPerPixel are {layout.rows}, {layout.columns} and 1"
        else:
            # Where all bits of a value are there, its sign is as PixelRepresentation says, whatever the codestream's.
            signs_agree = not layout.signed if found.signed is None else found.signed == layout.signed
            agrees = found.precision <= layout.allocated and (found.precision >= layout.stored or signs_agree)
            sign = {None: "", True: "signed ", False: "unsigned "}[found.signed]
            claims = f"{found.precision} bits of {sign}samples"
            states = (
                f"BitsAllocated, BitsStored and PixelRepresentation are {layout.allocated}, {layout.stored} and "
                f"{int(layout.signed)}"
            )
        if not agrees:
            raise self._refusal(
                "codestream and header disagree", f"a {UID(self.syntax).name} codestream claims {claims}, but {states}"
            )

    def _decoded(self, index: int) -> Words:
        """One frame of compressed pixels."""
        layout = self.layout
        codestream = read_frame(self.stream, self._fragments[index])
        try:
            found = check_codestream(codestream, self.syntax)
        except (CodestreamError, EOFError) as error:
            raise self._damaged(index, error) from error
        self._require_agreement(found)
        rle = self.syntax == RLELossless
        precision = layout.allocated if rle else found.precision
        size = 8 if precision <= 8 else 16 if precision <= 16 else 32
        values, _ = get_decoder(self.syntax).as_array(
            encapsulate([codestream], has_bot=False),
            index=0,
            raw=True,
            decoding_plugin=DECODERS[self.syntax],
            **self._options(size, precision),
        )
        stored = min(layout.stored, precision)
        cells = values.view(f"{'i' if layout.signed else 'u'}{size // 8}")
        if rle:
            return stored_values(cells, layout, self.instance, self.name)
        if self._is_wider(found):
            self._require_unused_above(values.view(f"u{size // 8}"), precision)
        bits = PixelFormat(layout.rows, layout.columns, 1, size, stored, stored - 1, layout.signed, 0)
        return stored_values(cells, bits, self.instance, self.name)

    def _is_wider(self, found: Codestream) -> bool:
        """Whether samples have more bits than values, and not just all that their cells have."""
        of_samples = self.syntax != RLELossless
        return of_samples and self.layout.stored < found.precision < self.layout.allocated

    def _require_unused_above(self, samples: Words, precision: int) -> None:
        """Raise where the bits of samples above the value hold more than its sign, or one mark for all."""
        stored = self.layout.stored
        above = (samples & ((1 << precision) - 1)) >> stored
        sign = (samples >> (stored - 1) & 1) * ((1 << (precision - stored)) - 1)
        if np.ptp(above) and not (self.layout.signed and np.array_equal(above, sign)):
            raise self._refusal(
                "codestream and header disagree",
                f"a {UID(self.syntax).name} codestream uses {precision} bits of a sample, but BitsStored is {stored}",
            )

    def _options(self, size: int, precision: int) -> dict[str, Any]:
        """What pydicom is told of one frame: its bits as they are, for their meaning is worked out here."""
        return {
            "rows": self.layout.rows,
            "columns": self.layout.columns,
            "number_of_frames": 1,
            "samples_per_pixel": 1,
            "photometric_interpretation": "MONOCHROME2",
            "bits_allocated": size,
            "bits_stored": precision,
            "pixel_representation": 0,
            "correct_unused_bits": False,
            "apply_jls_sign_correction": False,
            "apply_j2k_sign_correction": False,
        }
