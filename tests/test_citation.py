"""What others cite is what is installed."""

from pathlib import Path

import yaml

import medfuse

ROOT = Path(__file__).parents[1]


def test_the_citation_names_this_version_and_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == medfuse.__version__
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()  # what the format requires
    (paper,) = cited["references"]
    assert paper["doi"] in (ROOT / "README.md").read_text()
