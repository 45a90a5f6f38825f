"""The blocks of code in a page of the documentation, as a reader would copy them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

BLOCK = re.compile(r"^```(?P<language>[a-z]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page whose language is named, in their order."""
    return [Block(found["language"], found["text"]) for found in BLOCK.finditer(page.read_text())]


def steps_of(page: Path) -> str:
    """The shell blocks of a page as one script, without those that install."""
    shell = [text for language, text in blocks_of(page) if language == "sh"]
    return "\n".join(text for text in shell if "pip install" not in text)
