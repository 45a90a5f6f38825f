"""Pages are one file each that asks for nothing, escapes all text, and appears whole or not at all."""

import base64
import hashlib
import json
import re

import pytest

from medfuse.errors import ExportError
from medfuse.report.page import render
from medfuse.report.page.render import json_of, number, render_page, write_page
from medfuse.runtime.output.own_results import first_foreign

HOSTILE = "</script><script>alert(1)</script><img src=http://x.invalid/y onerror=alert(2)>\"'&"


@pytest.fixture
def page():
    return render_page("base.html", title=HOSTILE, context={}, data={"facts": {"name": HOSTILE}})


def test_text_is_escaped_wherever_it_stands(page):
    assert "<script>alert" not in page
    assert "<img" not in page
    data = re.search(r'<script type="application/json" id="facts">(.*?)</script>', page)
    assert json.loads(data[1]) == {"name": HOSTILE}


def test_the_policy_names_each_script_by_its_digest_and_forbids_every_other(monkeypatch):
    texts = {"page.css": "", "one.js": "let a = 1 < 2 && '&amp;';\n", "two.js": "a += 1"}
    monkeypatch.setattr(render, "text_of", texts.get)
    page = render_page("base.html", title="t", context={}, scripts=("one.js", "two.js"))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    ran = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert ran == [texts["one.js"], texts["two.js"]]
    for script in ran:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert "script-src 'unsafe-eval' 'sha256-" in policy
    assert not re.search(r"https?:|\*|script-src[^;]*unsafe-inline", policy)


def test_a_page_says_research_use_only_and_what_made_it(page, tmp_path):
    assert page.count("Research use only") >= 2
    write_page(tmp_path / "a.html", page)
    assert first_foreign([tmp_path / "a.html"]) is None
    (tmp_path / "b.html").write_text(page.replace("medfuse ", "another ", 1))
    assert first_foreign([tmp_path / "b.html"]) == tmp_path / "b.html"


def test_a_page_is_written_whole_and_replaces_nothing_unasked(page, tmp_path):
    write_page(tmp_path / "deep" / "a.html", page)
    assert (tmp_path / "deep" / "a.html").read_text(encoding="utf-8") == page
    with pytest.raises(ExportError, match="exists already"):
        write_page(tmp_path / "deep" / "a.html", page)
    write_page(tmp_path / "deep" / "a.html", page, overwrite=True)
    with pytest.raises(ExportError, match=r"to end in \.html"):
        write_page(tmp_path / "a.pdf", page)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.html"]


def test_data_holds_no_number_that_json_lacks():
    with pytest.raises(ValueError, match="JSON compliant"):
        json_of({"a": float("nan")})


@pytest.mark.parametrize(
    ("value", "text"), [(1234567.0, "1.23e+06"), (12345.6, "12346"), (0.01234, "0.0123"), (0, "0"), (None, "unknown")]
)
def test_numbers_are_read_by_people(value, text):
    assert number(value) == text
