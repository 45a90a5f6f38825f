"""Write facts as a small HTML table, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = "border-collapse:collapse;font-variant-numeric:tabular-nums"
CELL = "text-align:left;vertical-align:top;padding:.15em .8em .15em 0"


def facts_table(facts: Iterable[tuple[str, str]]) -> str:
    """Terms and what they are, one a row; text is escaped."""
    rows = (
        f'<tr><th scope="row" style="{CELL}">{escape(term)}</th><td style="{CELL}">{escape(value)}</td></tr>'
        for term, value in facts
    )
    return f'<table style="{STYLE}"><tbody>{"".join(rows)}</tbody></table>'


def rows_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows under the names of their columns; text is escaped."""
    head = "".join(f'<th scope="col" style="{CELL}">{escape(name)}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(f'<td style={CELL!r}>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table style="{STYLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
