"""The page of a cohort in a real browser: ratings, filters and order, by keyboard, on a phone, without any request."""

import csv

import pytest
from browser import WITHOUT_WEBGL, chromium, faults_of_accessibility, opened
from cohort_pages import COUNTS, DIGESTS, NUMBERED, entries

from medfuse.cohort.running.ledger import History
from medfuse.cohort.running.ratings import read_ratings
from medfuse.report.cohort.page import Entry, cohort_page

pytestmark = pytest.mark.slow

HISTORY = History(plan=tuple(entry.study for entry in entries()), digests=DIGESTS)

TEXTS = "all => all.map((one) => one.textContent)"

HEAD = "study\trating\tcomment\tdigest\n"


@pytest.fixture(scope="module")
def browser():
    with chromium(WITHOUT_WEBGL) as found:
        yield found


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("cohort") / "index.html"
    path.write_text(cohort_page(entries(), counts=COUNTS, cohort="c0"), encoding="utf-8")
    return path


@pytest.fixture
def shown(browser, page_path):
    """The page, and what it told the console or asked for, which must be nothing in the end."""
    with opened(browser, page_path) as (page, told):
        yield page
        assert told == []


def order(page):
    return page.eval_on_selector_all("#table tbody tr:not([hidden])", "rows => rows.map((row) => row.dataset.study)")


def rate(page, study, word):
    page.get_by_role("group", name=f"Rating of {study}", exact=True).get_by_role("button", name=word).click()


def pressed(page, study):
    return page.eval_on_selector_all(
        f'#study-{study} button[aria-pressed="true"]', "all => all.map((one) => one.textContent)"
    )


def filter_of(page, name):
    return page.locator(f'select[data-filter="{name}"]')


def saved(page, tmp_path):
    with page.expect_download() as download:
        page.get_by_role("button", name="Save ratings.tsv").click()
    assert download.value.suggested_filename == "ratings.tsv"
    path = tmp_path / "ratings.tsv"
    download.value.save_as(path)
    return path


def load(page, path):
    page.set_input_files("#load", path)
    page.wait_for_function("document.getElementById('told').textContent !== ''")
    return page.text_content("#told")


def test_ratings_survive_a_reload_and_are_saved_as_they_are_read(shown, tmp_path):
    rate(shown, "n1", "accept")
    rate(shown, "e-far", "reject")
    rate(shown, "n2", "doubtful")
    rate(shown, "n2", "doubtful")  # taken back
    comments = {"e-far": "=1+1", "n1": '"quoted" \ttab', "n3": "<b>not rated</b>"}
    for study, text in comments.items():
        shown.get_by_label(f"Comment on {study}", exact=True).fill(text)
    shown.reload()
    assert (pressed(shown, "n1"), pressed(shown, "e-far"), pressed(shown, "n2")) == (["accept"], ["reject"], [])
    assert shown.get_by_label("Comment on e-far").input_value() == "=1+1"
    assert shown.text_content("#rated") == "1 accept, 0 doubtful, 1 reject, 11 unrated"
    path = saved(shown, tmp_path)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [(row["study"], row["rating"], row["comment"]) for row in rows] == [
        ("e-far", "reject", "'=1+1"),
        ("n1", "accept", '"quoted" tab'),
        ("n3", "", "<b>not rated</b>"),
    ]
    found = read_ratings(path, HISTORY)
    assert {study: (one.word, one.comment) for study, one in found.of.items()} == {
        "e-far": ("reject", "=1+1"),
        "n1": ("accept", '"quoted" tab'),
    }
    assert (found.faults, found.outdated) == ((), ())
    # The same ratings in a browser that knows nothing.
    shown.evaluate("localStorage.clear()")
    shown.reload()
    assert pressed(shown, "n1") == []
    assert load(shown, path) == "Loaded the ratings of 3 studies."
    assert (pressed(shown, "n1"), pressed(shown, "e-far")) == (["accept"], ["reject"])
    assert shown.get_by_label("Comment on n3").input_value() == "<b>not rated</b>"


def test_a_result_that_was_made_anew_and_another_cohort_inherit_no_rating(browser, tmp_path):
    def write(digest, cohort):
        entry = Entry(study="a", result="done", digest=digest * 64)
        (tmp_path / "index.html").write_text(cohort_page([entry], counts={"done": 1}, cohort=cohort))

    write("1", "c1")
    with opened(browser, tmp_path / "index.html") as (page, told):
        rate(page, "a", "reject")
        for digest, cohort, expected in (("2", "c1", []), ("1", "c2", []), ("1", "c1", ["reject"])):
            write(digest, cohort)
            page.reload()
            assert pressed(page, "a") == expected
        assert told == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n", "Expected one column study"),
        (b"study\trating\n", "Expected one column digest"),
        (HEAD.encode() + b"Doe^Jane\taccept\t\t1\n", "Line 2: expected a study of this cohort"),
        (HEAD.encode() + b"n1\twonderful\t\t1\n", "Line 2: expected accept, doubtful, reject"),
        (HEAD.encode() + f"n1\taccept\t\t{'f' * 64}\n".encode(), "1 are of former results"),
        (HEAD.encode() + f'n1\taccept\t"x\t{DIGESTS["n1"]}\n'.encode(), "Line 2: a quote is never closed"),
        (HEAD.encode() + b"n1\taccept\n", "Line 2: expected 4 cells"),
    ],
)
def test_files_that_are_no_ratings_are_told_and_change_nothing(shown, tmp_path, content, message):
    (tmp_path / "r.tsv").write_bytes(content)
    told = load(shown, tmp_path / "r.tsv")
    assert message in told
    assert "Doe" not in told
    assert shown.text_content("#rated").startswith("0 accept")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_what_a_spreadsheet_saved_is_loaded(shown, tmp_path, encoding):
    text = HEAD.replace("\n", "\r\n") + f'"n1"\tReject\t"müde; ""ja"""\t{DIGESTS["n1"]}\r\n'
    content = text.encode(encoding)
    (tmp_path / "r.tsv").write_bytes(b"\xfe\xff" + content if encoding == "utf-16-be" else content)
    assert load(shown, tmp_path / "r.tsv") == "Loaded the ratings of 1 studies."
    assert pressed(shown, "n1") == ["reject"]
    assert shown.get_by_label("Comment on n1").input_value() == 'müde; "ja"'


def test_filters_and_order_work_by_keyboard(shown):
    assert order(shown)[0] == "e-far"
    result = filter_of(shown, "result")
    result.focus()
    shown.keyboard.type("killed")
    assert order(shown) == ["b-killed"]
    assert shown.text_content("#shown") == "1 of 13 studies shown."
    shown.get_by_role("button", name="Show all").focus()
    shown.keyboard.press("Enter")
    assert len(order(shown)) == 13
    filter_of(shown, "flags").select_option("window outlier")
    assert order(shown) == ["e-far"]
    shown.get_by_role("button", name="Show all").press("Space")
    # From the order's button on, the next stop of the keyboard is the next column's button.
    button = shown.get_by_role("button", name="Error, mm")
    button.focus()
    shown.keyboard.press("Enter")
    assert order(shown)[:4] == ["e-far", "n8", "a-refused", "n7"]
    assert shown.get_attribute("th[data-sort=error]", "aria-sort") == "descending"
    shown.keyboard.press("Enter")
    assert order(shown)[:3] == ["n1", "n2", "n3"]
    assert {*order(shown)[-3:]} == {"b-killed", "d-unconfirmed", "w"}  # without a number: last, in either order
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.textContent") == "Flags"
    shown.get_by_label("Name holds").fill("N")
    assert set(NUMBERED) < set(order(shown))


def test_a_rating_is_a_filter_and_the_choices_count_as_the_ledger(shown):
    rate(shown, "n4", "reject")
    filter_of(shown, "rating").select_option("reject")
    assert order(shown) == ["n4"]
    choices = shown.eval_on_selector_all(
        'select[data-filter="result"] option', "all => all.map((one) => one.textContent)"
    )
    assert choices[0] == "all"
    assert sum(int(one.split("(")[1].rstrip(")")) for one in choices[1:]) == len(entries())
    for state, number in COUNTS.items():
        assert (f"{state} ({number})" in choices) == bool(number)


def test_what_was_refused_can_be_rated_and_what_died_cannot(shown):
    assert shown.get_by_role("group", name="Rating of a-refused").count() == 1
    assert shown.text_content("#study-b-killed td.rating") == "nothing to rate"


def test_two_windows_do_not_undo_each_other(browser, page_path):
    with opened(browser, page_path) as (one, _):
        other = one.context.new_page()
        other.goto(one.url)
        rate(one, "n1", "accept")
        rate(other, "n2", "reject")
        one.wait_for_function("document.querySelector('#study-n2 button[aria-pressed=true]') !== null")
        one.reload()
        assert (pressed(one, "n1"), pressed(one, "n2")) == (["accept"], ["reject"])


def test_a_browser_that_keeps_nothing_says_so(browser, page_path, tmp_path):
    with opened(browser, page_path) as (page, told):
        page.evaluate("Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }; 0")
        rate(page, "n1", "accept")
        assert "keeps no ratings" in page.text_content("#told")
        assert "n1\taccept" in saved(page, tmp_path).read_text()
        assert told == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it(browser, page_path, scheme):
    with opened(browser, page_path, color_scheme=scheme) as (page, told):
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        boxes = page.eval_on_selector_all(
            "#table tbody button, #table tbody textarea, #controls select, #controls button, #controls input",
            "all => all.map((one) => one.getBoundingClientRect()).map(({left, right}) => [left, right])",
        )
        assert boxes
        assert all(left >= 0 and right <= 390 for left, right in boxes)
        rate(page, "n1", "accept")
        assert pressed(page, "n1") == ["accept"]
        assert told == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_no_fault_of_accessibility(browser, page_path, width, scheme):
    with opened(browser, page_path, color_scheme=scheme) as (page, _):
        page.set_viewport_size({"width": width, "height": 800})
        rate(page, "n1", "accept")
        assert faults_of_accessibility(page) == []


def test_a_thousand_studies_can_be_used(browser, tmp_path):
    many = [
        Entry(
            study=f"sub-{number:04d}_pet",
            result="done",
            modality="PT",
            digest=f"{number:064x}",
            row={"verdict": "aligned", "error_mm": number % 97 / 40},
            picture=entries()[1].picture,
            page="p.html",
        )
        for number in range(1000)
    ]
    (tmp_path / "index.html").write_text(cohort_page(many, counts={"done": 1000}, cohort="many"))
    assert (tmp_path / "index.html").stat().st_size < 12e6
    with opened(browser, tmp_path / "index.html") as (page, told):
        rate(page, "sub-0096_pet", "accept")
        page.get_by_label("Name holds").fill("-099")
        assert len(order(page)) == 10
        page.get_by_role("button", name="Study", exact=True).click()
        assert order(page)[0] == "sub-0990_pet"
        assert told == []
