"""The elements that planning reads decide as whole headers do what a series is and whether it is a volume."""

import pytest
from classic import leave, small_series

from medfuse.dicom.header import quiet
from medfuse.dicom.scanning.collect import collect
from medfuse.dicom.scanning.planning_elements import PLANNING_ELEMENTS
from medfuse.dicom.scanning.series import Accepted, Series


def verdicts(folder, keywords):
    found = collect(folder, keywords)
    with quiet():
        series = [part for group in found.groups for part in Series.assemble(*group, Accepted())]
    assert series
    return [(one.uid, one.problem, one.traits, one.grid and one.grid.affine.tolist(), one.frames) for one in series]


@pytest.mark.parametrize("modality", ["MR", "CT", "PT", "NM"])
def test_of_each_modality(tmp_path, modality):
    small_series(tmp_path / "whole", modality, 6)
    assert verdicts(tmp_path, PLANNING_ELEMENTS) == verdicts(tmp_path, ())


def test_of_a_series_with_a_gap(tmp_path):
    folder, _, _ = small_series(tmp_path / "gap", slices=8)
    leave(folder, (0, 1, 2, 5, 6, 7))
    assert verdicts(tmp_path, PLANNING_ELEMENTS) == verdicts(tmp_path, ())
    assert verdicts(tmp_path, PLANNING_ELEMENTS)[0][1]


@pytest.mark.parametrize("name", ["dcm_qa_ts", "dcm_qa_enh"])
def test_of_mosaics_and_enhanced_files(shared_data, name):
    folder = shared_data / "series" / name
    assert verdicts(folder, PLANNING_ELEMENTS) == verdicts(folder, ())
