"""In notebooks, volumes, studies, registrations and plans show themselves, and nothing else changes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from synthetic import oblique_grid, world_linear

import medfuse
from medfuse.cohort.planned import Plan, PlannedFusion
from medfuse.pipeline.report.notebook import InlinePage, show_volumes
from medfuse.registration import Registration, Verdict
from medfuse.runtime.notebook import bars as notebook_progress
from medfuse.runtime.notebook.bars import NotebookBars
from medfuse.runtime.progress import silent, told
from medfuse.volume import make_volume


@pytest.fixture(scope="module")
def shown():
    """What an IPython shell shows of something, by MIME type."""
    formatter = pytest.importorskip("IPython.core.formatters", reason="IPython is not installed").DisplayFormatter()

    class Shell:
        display_formatter = formatter

    show_volumes(Shell())
    return lambda thing: formatter.format(thing)[0]


@pytest.mark.parametrize("modality", ["MR", "CT", "PT", "NM"])
def test_a_volume_is_three_pictures_and_a_table(shown, modality):
    volume = world_linear(oblique_grid((20, 22, 18)), modality)
    seen = shown(volume)
    assert seen["text/html"].count("<img") == 3
    assert "20 × 22 × 18" in seen["text/html"]
    assert seen["text/plain"].startswith(f"MetaTensor({modality} in ")
    assert "\n" not in seen["text/plain"]
    assert type(volume) is MetaTensor


def test_colours_and_constant_volumes_are_shown_too(shown):
    grid = oblique_grid((12, 11, 10))
    colours = make_volume(torch.randint(0, 255, (3, 12, 11, 10), dtype=torch.uint8), grid, modality="MR")
    assert shown(colours)["text/html"].count("<img") == 3
    constant = make_volume(torch.full((1, 12, 11, 10), 7.0), grid, modality="MR")
    assert "<img" not in shown(constant)["text/html"]
    assert "7 to 7" in shown(constant)["text/html"]


@pytest.mark.parametrize(
    "other", [torch.arange(3), MetaTensor(torch.zeros(1, 3, 3, 3)), MetaTensor(torch.zeros(4), meta={"modality": "MR"})]
)
def test_other_tensors_stay_as_they_are(shown, other):
    assert shown(other) == {"text/plain": repr(other)}


def test_a_registration_shows_where_it_was_assessed_and_a_table():
    places = np.array([[0.0, 0, 0], [40, -30, 20], [-50, 10, 60]])
    verdict = Verdict("aligned", 1.25, places=places, errors_mm=np.array([0.0, 2.0, 9.0]))
    seen = Registration(np.eye(4), "rigid", verdict=verdict)._repr_html_()
    assert seen.count("<circle") == 9
    assert "#440154" in seen
    assert "#fde725" in seen  # the ends of viridis
    assert "1.2 mm" in seen
    for letter in "RLAPSI":
        assert f">{letter}</text>" in seen
    assert "not assessed" in Registration(np.eye(4), "file")._repr_html_()


def test_a_plan_is_a_table_whose_text_is_escaped():
    row = {"subject": "01", "mri": (Path("/a"),), "partner": (Path("/b"),), "modality": "PT"}
    rows = tuple(PlannedFusion(name=f"sub-{k}", reason="<script>x</script>", **row) for k in range(25))
    seen = Plan(rows)._repr_html_()
    assert "25 fusions" in seen
    assert "5 fusions more" in seen
    assert seen.count("<tr>") == 21
    assert "<script>" not in seen
    assert ">PET<" in seen
    assert "/a" not in seen.replace("</", "")


def test_a_study_shows_itself_and_opens_its_viewer(monkeypatch):
    phantom = medfuse.phantom_study("PT", coarsen=4)
    truth = Registration(phantom.truth, "file")
    fused = medfuse.fuse(phantom.mri, phantom.partner, align=truth, force=True, method="average")
    assert fused._repr_html_().count("<img") == 1
    assert "Research use only" in fused._repr_html_()
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "ipyniivue", None)
        page = fused.view(height=500)
    assert isinstance(page, InlinePage)
    assert page._repr_html_().startswith("<iframe srcdoc=")
    assert "<script" not in page._repr_html_()
    pytest.importorskip("ipyniivue", reason="ipyniivue is not installed")
    box = fused.view(height=500)
    assert [pane.volumes[0].name for pane in box.children] == ["mri.nii.gz", "partner.nii.gz", "fused.nii.gz"]
    assert all(len(pane.other_nv) == 2 for pane in box.children)


def test_progress_is_told_to_a_notebook_where_nobody_else_is(monkeypatch):
    def mine(step, share, note=""):
        pass

    assert told(None) is silent
    monkeypatch.setattr("medfuse.runtime.progress.notebook_shell", lambda: object())
    assert told(None) is notebook_progress.BARS
    assert told(mine) is mine


def test_a_bar_is_drawn_for_what_takes_a_while_and_goes(monkeypatch):
    pytest.importorskip("IPython", reason="IPython is not installed")
    drawn = []

    class Handle:
        def update(self, what):
            drawn.append(what.data)

    def display(what, display_id):
        drawn.append(what.data)
        return Handle()

    clock = iter([0.0, 0.1, 1.0, 1.05, 2.0, 3.0, 4.0])
    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(notebook_progress.time, "monotonic", lambda: next(clock))
    bars = NotebookBars()
    for share in (0.0, 0.1, 0.4, 0.45, 0.7, 1.0):
        bars("align", share, "<1.2>")
    assert len(drawn) == 3
    assert "40%" in drawn[0]
    assert "&lt;1.2&gt;" in drawn[0]
    assert "70%" in drawn[1]
    assert drawn[2] == ""
    bars("write", 0.0)
    assert len(drawn) == 3
