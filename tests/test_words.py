"""Check the words of the documentation: no metaphors for parts of the software, and lines that fit a screen."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "recipes", "medfuse/gesenet/weights")
PAGES = [*sorted(ROOT.glob("*.md")), *(page for folder in FOLDERS for page in sorted((ROOT / folder).rglob("*.md")))]
LONGEST = 125

METAPHORS = re.compile(
    r"\b(houses?|rooms?|doors?|roads?|rungs?|ladders?|schools?|judg(e|es|ed|ing)|strangers?|parcels?|lanes?|abreast"
    r"|the line|whole line|borne twice|what is dear|leave gone|mend(s|ed)?)\b",
    re.IGNORECASE,
)
CODE = re.compile(r"^(`{3,}).*?^\1$|`[^`]*`|\]\([^)]*\)", re.MULTILINE | re.DOTALL)


def test_there_are_pages():
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "TRAINING-LOG.md"} <= {path.name for path in PAGES}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_lines_fit_a_screen(path):
    lines = enumerate(path.read_text().splitlines(), start=1)
    assert not [number for number, line in lines if len(line) > LONGEST and not line.lstrip().startswith("|")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_software_is_described_without_metaphors(path):
    # Code keeps its lines, so that a page's words are found where they are.
    prose = CODE.sub(lambda code: "\n" * code.group().count("\n"), path.read_text())
    found = [(number, m.group()) for number, line in enumerate(prose.splitlines(), 1) for m in METAPHORS.finditer(line)]
    assert not found
