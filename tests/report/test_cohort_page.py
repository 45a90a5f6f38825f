"""The page of a cohort tells what the ledger says, the worst first, and marks what is far from the others."""

import re

import numpy as np
import pytest
from cohort_pages import COUNTS, DIGESTS, entries

from medfuse.report.cohort.distributions import LEAST_VALUES, Measure, histogram
from medfuse.report.cohort.page import Entry, cohort_page, flags_of, measures_of


@pytest.fixture(scope="module")
def page():
    return cohort_page(entries(), counts=COUNTS, cohort="c0")


def test_every_study_stands_once_the_worst_first(page):
    rows = re.findall(r'<tr id="study-([^"]+)"', page)
    assert rows == [
        "e-far",
        "a-refused",
        "b-killed",
        "d-unconfirmed",
        "n8",
        "n7",
        "n6",
        "n5",
        "n4",
        "n3",
        "n2",
        "n1",
        "w",
    ]
    assert all(digest in page for digest in DIGESTS.values())


def test_counts_are_those_of_the_ledger(page):
    told = re.search(r'<p id="counts">(.*?)</p>', page, re.DOTALL)[1]
    found = {state: int(count) for count, state in re.findall(r"<b>(\d+)</b> (\w+)", told)}
    assert found == {state: count for state, count in COUNTS.items() if count}
    assert "13 studies" in told


def test_texts_are_escaped_and_paths_quoted():
    hostile = '"><script>alert(1)</script>'
    entry = Entry(study="a", result="failed", message=hostile, page="a b/#1?.html", log="logs/%.log", modality=hostile)
    page = cohort_page([entry], counts={"failed": 1}, cohort="c")
    assert "<script>alert" not in page
    assert 'href="a%20b/%231%3F.html"' in page
    assert 'href="logs/%25.log"' in page


def test_flags_say_what_is_odd():
    measures = list(measures_of(entries()))
    flags = {entry.study: list(flags_of(entry, measures)) for entry in entries()}
    assert flags["a-refused"] == ["no result", "not aligned"]
    assert flags["b-killed"] == ["no result"]
    assert flags["d-unconfirmed"] == ["unconfirmed"]
    assert flags["e-far"] == ["not aligned", "error outlier", "window outlier"]
    assert flags["n1"] == flags["w"] == []


def test_an_alignment_that_is_confirmed_but_doubtful_is_flagged_and_stands_before_the_others():
    good, doubtful = (
        Entry(study=name, result="done", row={"verdict": "aligned", "error_mm": error, "doubtful": name == "b"})
        for name, error in (("a", 4.5), ("b", 4.0))
    )
    assert list(flags_of(doubtful, ())) == ["aligned but doubtful"]
    assert list(flags_of(good, ())) == []
    assert doubtful.rank < good.rank


def test_the_rule_is_tukeys():
    values = {f"s{number}": float(number) for number in range(1, 13)}
    first, _, third = np.percentile(list(values.values()), (25, 50, 75))
    fence = third + 1.5 * (third - first)
    assert Measure("x", "x", {**values, "on": fence}).outliers == ()
    # The value itself moves the quartiles a little: far beyond the fence it is one, on either side.
    assert Measure("x", "x", {**values, "high": 100.0, "low": -90.0}).outliers == ("low", "high")
    assert Measure("x", "x", {**values, "high": 100.0, "low": -90.0}, low_is_odd=False).outliers == ("high",)


def test_few_values_have_no_outliers_and_equal_ones_are_not_drawn():
    few = {f"s{number}": 1.0 for number in range(LEAST_VALUES - 2)}
    assert Measure("x", "x", {**few, "odd": 99.0}).outliers == ()
    many = {f"s{number}": 1.0 for number in range(LEAST_VALUES)}
    assert Measure("x", "x", many).constant
    assert Measure("x", "x", {**many, "odd": 1.0 + 1e-9}).outliers == ()
    assert Measure("x", "x", {**many, "odd": 1.1}).outliers == ("odd",)
    assert Measure("x", "x", {"a": 0.0, "b": 0.0}).constant


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_histogram_holds_every_value_within_its_drawing(scale):
    draw = np.random.default_rng(1)
    values = {f"s{number}": float(value) for number, value in enumerate(draw.normal(3, 1, 500) * scale)}
    found = histogram(Measure("x", "x", values))
    assert sum(bar.count for bar in found.bars) == 500
    assert all(
        bar.x >= 0 and bar.x + bar.width <= 640 and bar.y >= 0 and bar.y + bar.height <= 150 for bar in found.bars
    )
    assert all(0 <= place <= 640 for place in (*found.box, *found.marks, *(place for place, _ in found.ticks)))
    assert 1 <= len(found.ticks) <= 8


def test_what_has_no_number_is_left_out():
    odd = [
        Entry(study="a", result="done", row={"error_mm": None, "suv_factor": True, "mri_window_lower": "1"}),
        Entry(study="b", result="done", row={"error_mm": float("inf"), "mri_window_upper": float("nan")}),
    ]
    assert list(measures_of(odd)) == []
    assert "No study has a result yet" in cohort_page(odd, counts={"done": 2}, cohort="c")


def test_pictures_beyond_what_a_page_bears_are_left_to_the_studies_pages(monkeypatch):
    from medfuse.report.cohort import page as module

    monkeypatch.setattr(module, "MOST_PICTURES_BYTES", 25)
    many = [Entry(study=f"s{number}", result="done", picture=b"\xff\xd8\xff" + b"x" * 7) for number in range(5)]
    assert cohort_page(many, counts={"done": 5}, cohort="c").count("data:image/jpeg") == 2
