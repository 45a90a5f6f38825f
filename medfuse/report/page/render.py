"""Render a page as one HTML file that needs nothing beside it, and write it whole or not at all.

A page is a template of this folder's ``files`` that extends ``base.html``. Its styles and scripts stand in the file;
the Content-Security-Policy in its head forbids every request, and every script but those whose SHA-256 it names, so
that nothing which stands in a header could ever run (W3C Content Security Policy Level 3, 2.3.1 and 6.7).
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image, features

from medfuse.errors import ExportError
from medfuse.provenance import DISCLAIMER, software
from medfuse.runtime.output.atomic_output import atomic_file

SUFFIXES = (".html", ".htm")

WEBP_EFFORT, WEBP_METHOD = 50, 3
"""How long is looked for a smaller file: half a second for a figure."""

POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; font-src data:; connect-src data:; "
    "form-action 'none'; base-uri 'none'; script-src 'unsafe-eval' {scripts}"
)
"""What a page may load: what stands in it, and nothing else.

No script of ours evaluates text, and no other one runs; tools that test or archive pages wait by evaluating, and could
not without leave.
"""


def render_page(
    template: str,
    *,
    title: str,
    context: Mapping[str, object],
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    data: Mapping[str, object] | None = None,
) -> str:
    """Render a template to a page in one file.

    Parameters
    ----------
    template
        Name of a file that extends ``base.html``.
    title
        What the page is called; no patient's name or number.
    context
        What the template shows. Text is escaped wherever it stands.
    styles, scripts
        Further files of the folder, put into the page after its own stylesheet, and at its end. Scripts run in order.
    data
        What scripts read, as JSON in an element whose id is the name: see `json_of`.

    Returns
    -------
    str
        HTML.
    """
    texts = [text_of(name) for name in scripts]
    page = _environment().get_template(template)
    return page.render(
        **context,
        title=title,
        disclaimer=DISCLAIMER,
        software=software(),
        policy=_policy(texts),
        styles=[Markup(text_of(name)) for name in ("page.css", *styles)],
        scripts=[Markup(text) for text in texts],
        data={name: Markup(json_of(value)) for name, value in (data or {}).items()},
    )


def write_page(path: Path, page: str, *, overwrite: bool = False) -> None:
    """Write a rendered page.

    Raises
    ------
    ExportError
        If the path does not end as an HTML file's, is taken, or cannot be written.
    """
    require_page_suffix(path)
    with atomic_file(path, overwrite) as beside:
        beside.write_text(page, encoding="utf-8", newline="\n")


def require_page_suffix(path: Path) -> None:
    """Raise `ExportError` unless a path ends as an HTML file's does."""
    if path.suffix.lower() not in SUFFIXES:
        raise ExportError(f"expected a page's path to end in {' or '.join(SUFFIXES)}; found {path.name!r}.")


def image_url(content: bytes, kind: str = "png") -> str:
    """A picture as an address that holds it (RFC 2397); ``kind`` is the subtype, such as png, webp or jpeg."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def picture_url(png: bytes) -> str:
    """A PNG as the address of a picture with the same pixels: lossless WebP, which takes two thirds of the space.

    Where Pillow was built without WebP, it stays PNG.
    """
    if not features.check("webp"):
        return image_url(png)
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).save(buffer, format="WEBP", lossless=True, quality=WEBP_EFFORT, method=WEBP_METHOD)
    return image_url(buffer.getvalue(), "webp")


def json_of(value: object) -> str:
    """JSON that may stand within a script element: no ``<`` ends it, and no number is NaN (HTML 4.12.1.3)."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def text_of(name: str) -> str:
    """The text of a file of this folder."""
    return (files(__package__) / "files" / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    allowed = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'" for script in scripts
    ]
    return POLICY.format(scripts=" ".join(allowed))


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(__package__, "files"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["number"] = number
    return made


def number(value: Any, digits: int = 3) -> str:
    """A number as people read it: so many significant digits, no exponent below a million."""
    if value is None:
        return "unknown"
    return f"{value:.{digits}g}" if abs(value) < 10**digits or abs(value) >= 1e6 else f"{value:.0f}"
