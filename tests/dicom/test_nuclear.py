"""Where NM reconstructions state their geometry: in the detectors, in the header, in functional groups."""

import copy

import pytest
from classic import edit, small_series
from enhanced import one
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from synthetic import worst_linear_error

import medfuse
from medfuse.errors import SeriesError

PLACED = ("ImagePositionPatient", "ImageOrientationPatient")


def take(header):
    """Remove position and orientation from the detector, and return them."""
    detector = header.DetectorInformationSequence[0]
    values = {keyword: copy.deepcopy(detector[keyword].value) for keyword in PLACED}
    for keyword in PLACED:
        del detector[keyword]
    return values


def put(target, values):
    for keyword, value in values.items():
        setattr(target, keyword, value)


def at_top(header, _):
    put(header, take(header))


def in_second_detector(header, _):
    values = take(header)
    header.DetectorInformationSequence.append(Dataset())
    put(header.DetectorInformationSequence[1], values)


def in_both_detectors(header, _):
    header.DetectorInformationSequence.append(copy.deepcopy(header.DetectorInformationSequence[0]))


def without_detectors(header, _):
    put(header, take(header))
    del header.DetectorInformationSequence


def split_between(header, _):
    values = take(header)
    header.ImageOrientationPatient = values["ImageOrientationPatient"]
    header.DetectorInformationSequence[0].ImagePositionPatient = values["ImagePositionPatient"]


def in_shared_groups(header, _):
    values = take(header)
    header.SharedFunctionalGroupsSequence = one(
        PlanePositionSequence=one(ImagePositionPatient=values["ImagePositionPatient"]),
        PlaneOrientationSequence=one(ImageOrientationPatient=values["ImageOrientationPatient"]),
        PixelMeasuresSequence=one(PixelSpacing=header.PixelSpacing, SpacingBetweenSlices=header.SpacingBetweenSlices),
    )
    del header.PixelSpacing, header.SpacingBetweenSlices


def with_groups_that_place_nothing(header, _):
    header.PerFrameFunctionalGroupsSequence = Items([Dataset() for _ in range(int(header.NumberOfFrames))])


def said_twice(header, _):
    values = take(header)
    put(header.DetectorInformationSequence[0], values)
    put(header, values)


@pytest.mark.parametrize(
    "change",
    [
        *(at_top, in_second_detector, in_both_detectors, without_detectors, split_between, in_shared_groups),
        *(with_groups_that_place_nothing, said_twice),
    ],
)
def test_the_geometry_is_read_wherever_it_stands(tmp_path, change):
    folder, scale, offset = small_series(tmp_path / "nm", "NM")
    whole = medfuse.load(folder)
    edit(folder, change)
    loaded = medfuse.load(folder)
    assert loaded.as_tensor().equal(whole.as_tensor())
    assert worst_linear_error(loaded, scale, offset) < 0.02


@pytest.mark.parametrize("keyword", PLACED)
@pytest.mark.parametrize("where", ["header", "detector"])
def test_geometry_that_contradicts_itself_is_refused(tmp_path, keyword, where):
    folder, _, _ = small_series(tmp_path / "nm", "NM")

    def contradict(header, _):
        other = copy.deepcopy(header.DetectorInformationSequence[0])
        if keyword == "ImagePositionPatient":
            other.ImagePositionPatient = [float(value) + 5 for value in other.ImagePositionPatient]
        else:
            other.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        if where == "detector":
            header.DetectorInformationSequence.append(other)
        else:
            put(header, {keyword: other[keyword].value})

    edit(folder, contradict)
    place = "the header itself" if where == "header" else "item 2 of DetectorInformationSequence"
    with pytest.raises(SeriesError, match=rf"two values of {keyword} \(0020,00.*in item 1 of .* in {place}"):
        medfuse.load(folder)


@pytest.mark.parametrize("keyword", [*PLACED, "SpacingBetweenSlices", "PixelSpacing"])
def test_only_what_is_missing_is_called_missing(tmp_path, keyword):
    folder, _, _ = small_series(tmp_path / "nm", "NM")

    def lack(header, _):
        delattr(header.DetectorInformationSequence[0] if keyword in PLACED else header, keyword)

    edit(folder, lack)
    with pytest.raises(SeriesError, match=rf"lacks {keyword} \(00..,00..\): neither"):
        medfuse.load(folder)
