"""Tables as people have them: encodings, separators, archives, spreadsheets. What is wrong is said with its row."""

import gzip
import io
import zipfile
from pathlib import Path

import openpyxl
import pytest

from tissueboard.intake.clinical import read_table
from tissueboard.intake.clinical.table import letter, number
from tissueboard.intake.errors import IntakeCode as C

ROWS = [["patient_id", "city", "age"], ["P1", "Zürich", "61"], ["P2", "São Paulo", "47"]]


def codes(table) -> list[str]:
    return [f.code for f in table.findings]


def the(table, code):
    found = [f for f in table.findings if f.code == code]
    assert len(found) == 1, table.findings
    return found[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_encodings_that_are_certain_are_read_without_a_word(write_csv, encoding, separator):
    table = read_table(write_csv("t.csv", ROWS, encoding=encoding, separator=separator))
    assert table.columns == ("patient_id", "city", "age")
    assert [row.cells for row in table.rows] == [tuple(r) for r in ROWS[1:]]
    assert [row.number for row in table.rows] == [2, 3]
    assert not table.findings


def test_another_encoding_is_read_and_named_with_byte_and_row(write_csv):
    path = write_csv("t.csv", ROWS, encoding="cp1252")
    table = read_table(path)
    finding = the(table, C.ENCODING_NOT_UTF8)
    at = path.read_bytes().index(b"\xfc")
    assert f"byte {at + 1}" in finding.sentence and finding.where == "row 2" and finding.severity == "warning"
    assert table.rows[0].cells[1] == "Zürich"


def test_bytes_that_windows_does_not_know_are_read_as_latin1(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"id,x\nP1,\x81\nP2,b\n")
    assert read_table(path).encoding == "latin-1"


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty.csv", b"", C.EMPTY_FILE),
        ("blank.csv", b"\n\n  \n", C.EMPTY_FILE),
        ("zeros.csv", b"\0" * 400, C.EMPTY_FILE),
        ("commas.csv", b",,\n,,\n", C.EMPTY_FILE),
        ("header.csv", b"patient_id,age\n", C.HEADER_ONLY),
        ("page.csv", b"<!DOCTYPE html><html><body>Sign in</body></html>", C.HTML_PAGE),
        ("old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, C.OLD_EXCEL),
        ("picture.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0", C.NOT_A_TABLE),
        ("cut.zip", b"PK\x03\x04\x14\0\0\0\x08\0 damaged", C.ARCHIVE_UNREADABLE),
        ("cut.csv.gz", b"\x1f\x8b\x08\0\0\0\0\0 damaged", C.ARCHIVE_UNREADABLE),
        ("quote.csv", b'id,note\nP1,"open\nP2,x\n', C.QUOTE_NOT_CLOSED),
        ("cell.csv", b"id,note\nP1," + b"x" * 1_000_001, C.CELL_TOO_LONG),
        ("comment.csv", b"#" + b"x" * 1_000_001 + b"\nid,note\nP1,x\n", C.CELL_TOO_LONG),
        ("lying.csv", b"\xef\xbb\xbfid,x\nP1,\xff\n", C.NOT_A_TABLE),
    ],
)
def test_what_is_no_table_is_refused_with_its_code(tmp_path, name, content, code):
    (tmp_path / name).write_bytes(content)
    table = read_table(tmp_path / name)
    finding = the(table, code)
    assert finding.severity == "error" and finding.sentence.endswith(".") and finding.hint and not table.rows


def test_a_missing_file_is_a_finding(tmp_path):
    assert codes(read_table(tmp_path / "no.csv")) == [C.FILE_MISSING]


def packed(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def test_the_one_member_of_an_archive_is_read_and_never_unpacked(tmp_path):
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "t.csv.zip").write_bytes(packed({"../../escaped.csv": b"id,age\nP1,5\n"}))
    table = read_table(folder / "t.csv.zip")
    assert table.columns == ("id", "age") and len(table.rows) == 1
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["t.csv.zip"]


def test_a_gzipped_table_is_read(tmp_path):
    (tmp_path / "t.tsv.gz").write_bytes(gzip.compress(b"id\tage\nP1\t5\n"))
    assert read_table(tmp_path / "t.tsv.gz").columns == ("id", "age")


@pytest.mark.parametrize("members", [{}, {"a.csv": b"x", "b.csv": b"y"}, {"inner.zip": packed({"a.csv": b"id,b\n1,2\n"})}])
def test_archives_with_more_than_a_table_are_refused(tmp_path, members):
    (tmp_path / "t.zip").write_bytes(packed(members))
    assert codes(read_table(tmp_path / "t.zip")) == [C.ARCHIVE_MEMBERS]


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    from tissueboard.intake.clinical import unwrap

    monkeypatch.setattr(unwrap, "MAX_BYTES", 100_000)
    (tmp_path / "zip.zip").write_bytes(packed({"t.csv": b"0" * 200_000}))
    (tmp_path / "gz.csv.gz").write_bytes(gzip.compress(b"0" * 200_000))
    assert codes(read_table(tmp_path / "zip.zip")) == [C.TABLE_TOO_LARGE]
    assert codes(read_table(tmp_path / "gz.csv.gz")) == [C.TABLE_TOO_LARGE]


def test_rows_are_numbered_as_a_spreadsheet_shows_them(tmp_path):
    (tmp_path / "t.csv").write_bytes(b'id,note\r\n\r\nP1,"two\r\nlines"\r\nP2,x\r\n')
    assert [row.number for row in read_table(tmp_path / "t.csv").rows] == [3, 4]


def test_rows_that_do_not_fit_the_header(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"id,age,\nP1,5,\nP2,5,6,7\nP3\n")
    table = read_table(tmp_path / "t.csv")
    assert table.columns == ("id", "age", "(column C)")
    assert the(table, C.ROW_TOO_LONG).where == "row 3, column D"
    assert the(table, C.ROW_TOO_SHORT).where == "row 4"


def test_columns_of_one_name_are_told_with_their_letters(write_csv):
    table = read_table(write_csv("t.csv", [["id", "age", "age"], ["P1", 5, 6]]))
    assert the(table, C.DUPLICATE_COLUMN).where == "row 1, columns B, C"


def test_cbioportal_comment_rows_become_labels_and_types(tmp_path):
    (tmp_path / "data_clinical_patient.txt").write_text(
        "#Patient Identifier\tOverall Survival (Months)\tOverall Survival Status\n"
        "#Identifier\tMonths since diagnosis\tStatus\n"
        "#STRING\tNUMBER\tSTRING\n"
        "#1\t1\t1\n"
        "PATIENT_ID\tOS_MONTHS\tOS_STATUS\n"
        "P1\t10.5\t1:DECEASED\n"
    )
    table = read_table(tmp_path / "data_clinical_patient.txt")
    assert table.form == "cbioportal" and table.columns == ("PATIENT_ID", "OS_MONTHS", "OS_STATUS")
    assert table.labels["OS_MONTHS"] == "Overall Survival (Months)" and table.declared["OS_MONTHS"] == "NUMBER"
    assert table.rows[0].number == 6


def workbook(path: Path, rows: list[list], change=None) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    if change:
        change(book)
    book.save(path)
    return path


def test_a_workbook_gives_text_cells_with_its_own_row_numbers(tmp_path):
    import datetime

    path = workbook(
        tmp_path / "t.xlsx", [["id", "age", "day", "ok"], ["P1", 61.0, datetime.datetime(2024, 3, 31), True], [], ["P2", 4.5, None, False]]
    )
    table = read_table(path)
    assert [(r.number, r.cells) for r in table.rows] == [(2, ("P1", "61", "2024-03-31", "true")), (4, ("P2", "4.5", "", "false"))]


def test_formulas_without_result_merged_cells_and_error_cells_stop_it_with_their_place(tmp_path):
    def change(book):
        book.active["B2"] = "=1+1"
        book.active.merge_cells("A3:A4")
        book.active["C3"] = "#DIV/0!"

    table = read_table(workbook(tmp_path / "t.xlsx", [["id", "age", "x"], ["P1", 1, 1], ["P2", 2, 2], ["P3", 3, 3]], change))
    assert the(table, C.FORMULA_WITHOUT_VALUE).where == "row 2, column B"
    assert the(table, C.MERGED_CELLS).where == "row 3, column A"
    assert the(table, C.CELL_ERROR).where == "row 3, column C"


def test_a_calculated_formula_is_read_with_a_warning(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["id", "age"], ["P1", "=40+2"]])
    inside = {m: zipfile.ZipFile(path).read(m) for m in zipfile.ZipFile(path).namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    # What a spreadsheet program adds when it saves: the result beside the formula.
    inside[sheet] = inside[sheet].replace(b"<v></v>", b"<v>42</v>").replace(b"<v />", b"<v>42</v>").replace(b"<v/>", b"<v>42</v>")
    path.write_bytes(packed(inside))
    table = read_table(path)
    assert the(table, C.FORMULA_CELL).where == "row 2, column B" and table.rows[0].cells == ("P1", "42")


def test_the_sheet_can_be_named_and_others_are_mentioned(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["id", "a"], ["P1", 1]], lambda b: b.create_sheet("second").append(["id", "b"]))
    assert the(read_table(path), C.OTHER_SHEETS).severity == "info"
    assert read_table(path, sheet="second").columns == ("id", "b")
    assert codes(read_table(path, sheet="third")) == [C.SHEET_UNKNOWN]


def test_one_cell_far_off_does_not_eat_the_memory(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["id"]], lambda b: b.active.cell(1_048_576, 16_384, "x"))
    assert codes(read_table(path)) == [C.TABLE_TOO_LARGE]


def test_a_damaged_workbook_is_refused(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(packed({"xl/workbook.xml": b"<workbook", "[Content_Types].xml": b"no"}))
    assert codes(read_table(tmp_path / "t.xlsx")) == [C.NOT_A_TABLE]


def test_numbers_are_plain_numbers_only():
    assert [number(t) for t in ("5", " 5.5 ", "-1e3", ".5", "5.")] == [5.0, 5.5, -1000.0, 0.5, 5.0]
    assert [number(t) for t in ("1_000", "inf", "nan", "1,5", "5 mg", "", "0x10", "1,000", "1e400")] == [None] * 9
    assert number("1,5", ",") == 1.5 and number("1.5,0", ",") is None
    assert [letter(i) for i in (0, 25, 26, 701, 702)] == ["A", "Z", "AA", "ZZ", "AAA"]
