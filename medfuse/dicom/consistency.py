"""Check written DICOM files for internal contradictions: which series there are, where, and with which values.

A series that was written once says many things twice; where the two disagree, one of them was changed or is wrong.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.misc import is_dicom
from pydicom.uid import (
    MediaStorageDirectoryStorage,
    NuclearMedicineImageStorage,
    SecondaryCaptureImageStorage,
    SpatialRegistrationStorage,
)

from medfuse.dicom.encoding.claimed_size import require_claimed_size
from medfuse.dicom.encoding.decode import StoredPixels
from medfuse.dicom.encoding.pictures import StoredPicture
from medfuse.dicom.encoding.pixel_format import GREY
from medfuse.dicom.frames.enhanced import group_of
from medfuse.dicom.frames.forms import frames_of
from medfuse.dicom.frames.frame import rescale_of
from medfuse.dicom.frames.stack import Stack, stack
from medfuse.dicom.header import MULTIFRAME_PICTURES, READABLE, Instance, code_value, quiet, said, series_name
from medfuse.dicom.objects.registration_reader import alignment_of
from medfuse.dicom.scanning.read_headers import read_any_header
from medfuse.dicom.writing.identity import faults_of
from medfuse.dicom.writing.series_modules import orientation_letters
from medfuse.errors import MedfuseError, RegistrationError, SeriesError, counted
from medfuse.runtime.output.exchange import settle_under, without_staged
from medfuse.volume.grid import Grid


@dataclass
class Exported:
    """One series of images as its files say.

    ``values`` are (X, Y, Z, C) stored numbers on ``grid``; times ``slope`` plus ``intercept`` they are measured values.
    ``preserved`` and ``moved`` are the instances that it was computed from in their own place, and from another.
    ``faults`` says what is wrong; grid and values are None where they are unknown.
    """

    uid: str
    name: str
    kind: str
    paths: list[Path]
    fused: bool = False
    grid: Grid | None = None
    values: npt.NDArray[Any] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    unit: str = ""
    profile: bool = False
    preserved: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)
    frame_of_reference: str = ""
    faults: list[str] = field(default_factory=list)


@dataclass
class Audit:
    """All of a folder: its series of images, its alignments by instance UID, and faults that concern several files.

    ``kept`` tells the elements of patient, study and place that are ill-formed, as the sources have them.
    """

    series: list[Exported]
    alignments: list[dict[str, Any]]
    paths: list[Path]
    faults: list[str]
    kept: list[str] = field(default_factory=list)


def audit(folder: Path, sources: Iterable[Path] = ()) -> Audit:
    """Read every DICOM file under a folder, save those under its sources, which may lie in it too.

    Raises
    ------
    SeriesError
        If there is none.
    """
    settle_under(folder)
    if not folder.is_dir():
        raise SeriesError(f"there is no folder {folder}; check the path.")
    apart = [source.resolve() for source in sources]
    groups: dict[str, list[Instance]] = defaultdict(list)
    found = Audit([], [], [], [])
    with quiet():
        for path in without_staged(folder, sorted(path for path in folder.rglob("*") if path.is_file())):
            if any(path.resolve().is_relative_to(source) for source in apart):
                continue
            try:
                if not is_dicom(path):
                    continue
                instance = read_any_header(path)
                header = instance.header
                if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
                    found.faults.extend(_index_faults(path, header))
                    continue
                found.faults.extend(_lacking(header))
                groups[said(header, "SeriesInstanceUID")].append(instance)
                found.paths.append(path)
            except Exception as error:  # pydicom raises many kinds on hostile bytes
                found.faults.append(
                    f"a DICOM file cannot be parsed ({type(error).__name__}): it is cut short or damaged."
                )
        if not found.paths and not found.faults:
            raise SeriesError(f"expected DICOM files in {folder}, found none; give the folder of an export.")
        headers = [instance.header for group in groups.values() for instance in group]
        with _damage_told(found):
            found.faults.extend(_across(headers))
        with _damage_told(found):
            found.kept.extend(_ill_formed(headers))
        for uid, instances in groups.items():
            with _damage_told(found):
                if any("Rows" in one.header for one in instances):
                    found.series.append(_image_series(uid, instances))
                elif instances[0].header.get("SOPClassUID") == SpatialRegistrationStorage:
                    _read_alignments(instances, found)
    return found


@contextmanager
def _damage_told(found: Audit) -> Iterator[None]:
    """Make a fault of an element that cannot be read: pydicom converts values, and raises, where they are used."""
    try:
        yield
    except Exception as error:
        found.faults.append(f"an element of a DICOM file cannot be read ({type(error).__name__}): the file is damaged.")


def _lacking(header: Dataset) -> Iterator[str]:
    """What every file of its class has, and one that was cut short has not."""
    wanted = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
    if said(header, "SOPClassUID") in (*READABLE, *MULTIFRAME_PICTURES, SecondaryCaptureImageStorage):
        wanted += ["Rows", "Columns"]
    missing = [keyword for keyword in wanted if not said(header, keyword)]
    if missing:
        yield f"a DICOM file lacks {', '.join(missing)}: it is cut short or damaged."


def _index_faults(path: Path, index: Dataset) -> Iterator[str]:
    """A DICOMDIR lists exactly the files of its folder."""
    named = [record.ReferencedFileID for record in index.DirectoryRecordSequence if "ReferencedFileID" in record]
    listed = {path.parent.joinpath(*([one] if isinstance(one, str) else one)) for one in named}
    there = {one for one in path.parent.rglob("*") if one.is_file() and one != path and is_dicom(one)}
    if listed != there:
        yield (
            f"the DICOMDIR lists {counted(len(listed - there), 'file')} that the folder lacks, and lacks "
            f"{counted(len(there - listed), 'file')} of the folder."
        )


def _read_alignments(instances: list[Instance], found: Audit) -> None:
    for instance in instances:
        try:
            found.alignments.append(alignment_of(instance.header))
        except RegistrationError as error:
            found.faults.append(str(error))


def _across(headers: list[Dataset]) -> Iterator[str]:
    """What all files of one result must agree on, or must not share; never the values."""
    uids = Counter(said(header, "SOPInstanceUID") for header in headers)
    doubled = sum(1 for count in uids.values() if count > 1)
    if doubled:
        yield f"several files have one SOPInstanceUID ({counted(doubled, 'time')}): an archive keeps one of them."
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName"):
        if len({said(header, keyword) for header in headers}) > 1:
            yield f"the files differ in {keyword}: an archive takes them for different patients or studies."
    for header in headers:
        stated = header.file_meta.get("MediaStorageSOPInstanceUID"), header.file_meta.get("MediaStorageSOPClassUID")
        if stated != (header.get("SOPInstanceUID"), header.get("SOPClassUID")):
            yield "a file's meta information names another instance or class than its dataset: receivers refuse it."
            break


def _ill_formed(headers: list[Dataset]) -> Iterator[str]:
    """Which elements are copied from sources as they are, though the Standard does not allow it; never the values."""
    for keyword, fault in dict.fromkeys(one for header in headers for one in faults_of(header)):
        yield f"{keyword} holds {fault}; it is kept as the source has it, and some archives refuse or change it."


def _image_series(uid: str, instances: list[Instance]) -> Exported:
    header = instances[0].header
    name = series_name(instances)
    kind = header.get("SOPClassUID")
    fused = "FUSED" in (header.get("ImageType") or []) or said(header, "SeriesDescription").startswith("FUSED")
    found = Exported(uid, name, getattr(kind, "name", "unknown"), [one.path for one in instances], fused)
    found.frame_of_reference = said(header, "FrameOfReferenceUID")
    try:
        placed = stack(frames_of(instances, name), name)
    except Exception as error:  # as above
        found.faults.append(str(error) if isinstance(error, MedfuseError) else f"{name} has no usable geometry.")
        return found
    instances = list({id(frame.instance): frame.instance for frame in placed.frames}.values())
    found.grid, found.paths = placed.grid, [one.path for one in instances]
    found.slope, found.intercept = placed.frames[0].slope, placed.frames[0].intercept
    mapping = (header.get("RealWorldValueMappingSequence") or [None])[0]
    if mapping is not None and mapping.get("MeasurementUnitsCodeSequence"):
        found.unit = code_value(mapping.MeasurementUnitsCodeSequence[0])
    found.profile = "ICCProfile" in header
    for one in instances:
        for item in one.header.get("SourceImageSequence") or []:
            where = found.preserved if item.get("SpatialLocationsPreserved") == "YES" else found.moved
            where.add(said(item, "ReferencedSOPInstanceUID"))
        found.faults.extend(fault for fault in _contradictions(one.header, found) if fault not in found.faults)
    found.faults.extend(_order_faults(placed, header, found))
    _read_values(placed, found)
    return found


def _contradictions(header: Dataset, found: Exported) -> Iterator[str]:
    """What one header says twice."""
    letters = header.get("PatientOrientation")
    orientation = _holder(header, "ImageOrientationPatient", "PlaneOrientationSequence")
    if letters and "ImageOrientationPatient" in orientation:
        directions = np.array([float(number) for number in orientation.ImageOrientationPatient]).reshape(2, 3)
        if [str(one) for one in letters] != [orientation_letters(direction) for direction in directions]:
            yield f"{found.name}: PatientOrientation and ImageOrientationPatient contradict each other."
    for mapping in header.get("RealWorldValueMappingSequence") or []:
        if "RescaleSlope" in header and "RealWorldValueSlope" in mapping:
            said = np.array([mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept], dtype=np.float64)
            if not np.allclose(said, rescale_of(header), rtol=1e-6):
                yield f"{found.name}: the rescale and the real-world value mapping contradict each other."
    if rescale_of(header) != (found.slope, found.intercept) and header.get("Manufacturer") == "medfuse":
        yield f"{found.name}: slices differ in their rescale, which medfuse writes as one."


def _holder(header: Dataset, keyword: str, group: str) -> Dataset:
    """Where an element stands: in the header itself, or in a functional group of all frames."""
    return header if keyword in header else group_of(header, 0, group)


def _order_faults(placed: Stack, header: Dataset, found: Exported) -> Iterator[str]:
    """Numbers run along the slice normal, and slices are as thick as they lie apart, where medfuse wrote them."""
    if header.get("Manufacturer") != "medfuse" or header.get("SOPClassUID") == NuclearMedicineImageStorage:
        return
    frames = placed.frames
    numbers = [frame.number or int(frame.instance.header.get("InstanceNumber") or 0) for frame in frames]
    if numbers != list(range(1, len(frames) + 1)):
        yield f"{found.name}: the numbers of slices do not run along their normal: slices are reversed or missing."
    columns, rows, _ = placed.grid.directions.T
    apart = abs(float(np.cross(columns, rows) @ placed.grid.affine[:3, 2]))
    measures = _holder(header, "SliceThickness", "PixelMeasuresSequence")
    if not np.isclose(float(measures.get("SliceThickness") or 0), apart, rtol=1e-3):
        yield f"{found.name}: SliceThickness is not the {apart:.4g} mm that the slices lie apart."


def _read_values(placed: Stack, found: Exported) -> None:
    """Decode the stored numbers, where the files can hold what they claim and their codestreams say the same."""
    try:
        found.values = _stored_values(placed, found.name)
    except MedfuseError as error:
        found.faults.append(f"the pixels of {found.name} cannot be decoded: {error}")
    except Exception as error:  # each decoder raises its own kinds
        found.faults.append(f"the pixels of {found.name} cannot be decoded ({type(error).__name__}).")


def _stored_values(placed: Stack, name: str) -> npt.NDArray[Any]:
    x, y, z = placed.grid.shape
    instances = {id(frame.instance): frame.instance for frame in placed.frames}
    require_claimed_size([(one, _claimed_bytes(one)) for one in instances.values()], name)
    stored: dict[int, npt.NDArray[Any]] = {}
    for key, instance in instances.items():
        with _opened(instance, name) as decode:
            for place, frame in enumerate(placed.frames):
                if id(frame.instance) == key:
                    stored[place] = decode((frame.number or 1) - 1)
    return np.stack([stored[place] for place in range(z)]).reshape(z, y, x, -1).transpose(2, 1, 0, 3)


@contextmanager
def _opened(instance: Instance, name: str) -> Iterator[Callable[[int], npt.NDArray[Any]]]:
    """What decodes a frame of a file from 0; each codestream is compared with the header before a decoder sees it."""
    if said(instance.header, "PhotometricInterpretation") in GREY:
        with StoredPixels(instance, name) as pixels:
            yield pixels.frame
    else:
        yield StoredPicture(instance, name).frame


def _claimed_bytes(instance: Instance) -> int:
    header = instance.header
    bits = [int(header.get(keyword) or 1) for keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")]
    return instance.frames * math.prod(bits) // 8


def without_negatives(paths: list[Path], folder: Path) -> list[Path]:
    """Files whose numbers all readers leave as they are: copies of MONOCHROME1, of which some make the negative."""
    first = dcmread(paths[0], specific_tags=["PhotometricInterpretation"])
    if first.get("PhotometricInterpretation") != "MONOCHROME1":
        return paths
    copies = []
    for number, path in enumerate(paths):
        dataset = dcmread(path)
        dataset.PhotometricInterpretation = "MONOCHROME2"
        copies.append(folder / f"{number:05d}.dcm")
        dataset.save_as(copies[-1])
    return copies
