"""The notebooks of the documentation run as they are stored, are small, and show what they should."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_BYTES = 500_000
LIMIT_S = 1200


def read(path):
    return pytest.importorskip("nbformat", reason="nbformat is not installed").read(path, as_version=4)


def test_there_are_three():
    assert {path.stem for path in NOTEBOOKS} == {"one-patient", "cohort", "your-own-network"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_holds_what_its_cells_gave(path):
    assert path.stat().st_size < MOST_BYTES
    text = path.read_text(encoding="utf-8")
    assert "Traceback" not in text
    assert str(Path.home()) not in text
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any("text/html" in output.get("data", {}) for cell in cells for output in cell.outputs)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    notebook = read(path)
    client = nbclient.NotebookClient(
        notebook, timeout=LIMIT_S, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    assert not list(tmp_path.iterdir())
