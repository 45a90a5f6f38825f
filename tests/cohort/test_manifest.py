"""Manifests: what is written reads back equal, and a bad row is one sentence that stops no other."""

import csv
from pathlib import Path

import pytest

from medfuse.cohort import Plan, PlannedFusion, read_manifest, write_manifest
from medfuse.errors import CohortError, ExportError

HEADER = (
    "name,subject,session,mri,mri_series,partner,partner_series,modality,tracer,align,window,palette,plane,reason\n"
)


def read(folder, text, name="plan.csv"):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_manifest(path)


@pytest.fixture
def rows(tmp_path):
    return (
        PlannedFusion(
            name="sub-01_ses-02_trc-FDG_pet",
            subject="01",
            session="02",
            mri=(tmp_path / "mri",),
            mri_series="1.2.3:2",
            partner=(tmp_path / "=cmd|' /C calc'!A0",),
            partner_series="7",
            modality="PT",
            tracer="FDG",
            align="rigid",
            window="0,5",
            palette="pet",
            plane="axial",
            method="gesenet",
            reason="=HYPERLINK(1); the only one",
        ),
        PlannedFusion(
            name="B",
            subject="02",
            mri=(Path("/else/where, 1/[a].nii"), Path('/else/"b"\n.nii')),
            partner=(Path("/else/[1]"),),
            align=str(tmp_path / "-maps" / "a.tfm"),
            window="-600,1500",
            reason="'+1 is text",
        ),
        PlannedFusion(name="C", subject="03", mri=(tmp_path / "ü",), partner=(tmp_path / " blank ",)),
    )


@pytest.mark.parametrize("name", ["plan.csv", "plan.tsv"])
def test_what_was_written_reads_back_equal(tmp_path, rows, name):
    plan = Plan(rows, source=tmp_path)
    write_manifest(plan, tmp_path / name)
    assert read_manifest(tmp_path / name) == plan
    write_manifest(read_manifest(tmp_path / name), tmp_path / f"again-{name}")
    assert (tmp_path / name).read_bytes() == (tmp_path / f"again-{name}").read_bytes()


def test_paths_below_the_manifest_move_with_it(tmp_path, rows):
    write_manifest(Plan(rows), tmp_path / "plan.csv")
    (tmp_path / "new").mkdir()
    (tmp_path / "plan.csv").rename(tmp_path / "new" / "plan.csv")
    moved = read_manifest(tmp_path / "new" / "plan.csv")
    assert moved.rows[0].mri == (tmp_path / "new" / "mri",)
    assert moved.rows[1].mri == rows[1].mri


def test_no_cell_is_a_formula(tmp_path, rows):
    write_manifest(Plan(rows), tmp_path / "plan.csv")
    with (tmp_path / "plan.csv").open(newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert {cell for cell in cells if cell[:1] in "=+-@\t\r" and cell} == {"-600,1500"}


def test_a_manifest_is_never_replaced_unasked(tmp_path, rows):
    write_manifest(Plan(rows), tmp_path / "plan.csv")
    with pytest.raises(ExportError, match="exists already"):
        write_manifest(Plan(()), tmp_path / "plan.csv")
    assert len(read_manifest(tmp_path / "plan.csv").rows) == 3


@pytest.mark.parametrize(
    "content",
    [
        b"subject,mri,partner\n01,a,b\n",
        b"\xef\xbb\xbfSubject , MRI,Partner\r\n01,a,b\r\n\r\n",
        b"participant_id\tmri\tpartner\nsub-01\ta\tb",
        b"subject;mri;partner\r01;a;b\r",
        "subject\tmri\tpartner\n01\ta\tb\n".encode("utf-16"),
        b"subject,mri,partner,window\n01,a,b,\n",
    ],
)
def test_tables_as_programs_write_them(tmp_path, content):
    found = read(tmp_path, content)
    assert not found.faults
    assert [(row.subject, row.mri, row.partner) for row in found.rows] == [("01", (tmp_path / "a",), (tmp_path / "b",))]
    assert found.rows[0].name == "sub-01_fusion"


HOSTILE = [
    ',01,,"mri,,b,,PT,,,,,,',  # a quote that nobody closes
    ",01,,mri,,b,,PT,,,,,",  # a cell too few
    ",01,,mri,,b,,PT,,,,,,,,",
    ",,,mri,,b,,PT,,,,,,",
    ",01,,,,b,,PT,,,,,,",
    ",01,,mri,,,,PT,,,,,,",
    ",Doe^Jane,,mri,,b,,PT,,,,,,",
    ",../../etc,,mri,,b,,PT,,,,,,",
    ",sub-,,mri,,b,,PT,,,,,,",
    "../../x,01,,mri,,b,,PT,,,,,,",
    "a name of Doe,01,,mri,,b,,PT,,,,,,",
    f"{'n' * 300},01,,mri,,b,,PT,,,,,,",
    ",01,ses 2,mri,,b,,PT,,,,,,",
    ",01,,mri,,b,,MR,,,,,,",
    ",01,,mri,,b,,petct,,,,,,",
    ",01,,mri,not a uid,b,,PT,,,,,,",
    ",01,,mri,,b,1.2.3;rm,PT,,,,,,",
    ",01,,mri,,b,,PT,F D G,,,,,",
    ",01,,mri,,b,,PT,,ridgid,,,,",
    ",01,,mri,,b,,PT,,,narrow,,,",
    ",01,,mri,,b,,PT,,,brain,,,",
    ',01,,mri,,b,,PT,,,"5,-1",,,',
    ",01,,mri,,b,,PT,,,,rainbow,,",
    ",01,,mri,,b,,PT,,,,,oblique,",
    ",01,,same,,same,,PT,,,,,,",
    ",01,,[1],,b,,PT,,,,,,",
    ",01,,[],,b,,PT,,,,,,",
    ",01,,mri\0,,b,,PT,,,,,,",
    ",01\x1b[2J,,mri,,b,,PT,,,,,,",
    ",01\udcff,,mri,,b,,PT,,,,,,",
]


def test_thirty_hostile_rows_are_a_sentence_each_and_stop_no_other(tmp_path):
    good = [f"good-{number},{number:02d},,mri,,b,,PT,,,,,," for number in range(len(HOSTILE) + 1)]
    lines = [good[0]]
    for bad, after in zip(HOSTILE, good[1:], strict=True):
        lines += [bad, after]
    text = HEADER + "\n".join(lines) + "\n"
    found = read(tmp_path, text.encode("utf-8", "surrogateescape"))
    assert len(HOSTILE) == 30
    assert [row.name for row in found.rows] == [line.split(",")[0] for line in good]
    assert [fault.row for fault in found.faults] == [3 + 2 * number for number in range(30)]
    assert len({fault.name for fault in found.faults} | {row.name for row in found.rows}) == 61
    for fault in found.faults:
        assert fault.message.startswith(f"line {fault.row}: ")
        assert fault.message.endswith((".", "?"))
        assert fault.message.isprintable()
        assert not {"Doe", "etc", "rm", "rainbow"} & set(fault.message.replace("'", " ").replace(".", " ").split())


def test_names_are_distinct_also_where_a_file_system_ignores_case(tmp_path):
    found = read(tmp_path, "name,subject,mri,partner\nA,1,a,b\na,2,a,b\n,3,a,b\n,3,c,d\nsub-3_fusion,4,a,b\n")
    assert [row.name for row in found.rows] == ["A", "sub-3_fusion", "sub-3_run-2_fusion"]
    assert [fault.row for fault in found.faults] == [3, 6]


def test_unknown_and_doubled_columns_are_faults_of_the_rows_that_use_them(tmp_path):
    table = "subject,mri,partner,algin,x_note,mri\n1,a,b,rigid,,a\n2,a,b,,mine,\n3,a,b,,,c\n4,a,b,,,a\n"
    found = read(tmp_path, table)
    assert [row.subject for row in found.rows] == ["2", "4"]
    assert "Did you mean 'align'?" in found.faults[0].message
    assert "one column mri" in found.faults[1].message


def test_a_cell_in_quotes_may_hold_several_lines(tmp_path):
    found = read(tmp_path, 'subject,mri,partner,reason\n1,a,b,"one\ntwo"\n2,a,b,\n')
    assert [row.reason for row in found.rows] == ["one two", ""]


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"a,b\n1,2\n", b'"subject,mri\n', b"\x00\x01\x02" * 40, b"\x89PNG\r\n"]
)
def test_what_is_no_table_is_refused(tmp_path, content):
    with pytest.raises(CohortError, match="expected a"):
        read(tmp_path, content)


def test_what_cannot_be_read_is_refused(tmp_path):
    for path in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(CohortError, match="cannot be read"):
            read_manifest(path)
