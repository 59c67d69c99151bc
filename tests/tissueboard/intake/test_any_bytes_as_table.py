"""Whatever bytes are sent as a table, there is an answer: rows or a coded finding, never an exception."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tissueboard.intake.clinical import propose_mapping, read_table

CELLS = st.one_of(
    st.sampled_from(["patient_id", "os_months", "os_status", "age", "1:DECEASED", "0:LIVING", "NA", "'--", "12,5", "=A1", '"', "#", "\n"]),
    st.text(max_size=8),
    st.floats().map(str),
)
TABLES = st.lists(st.lists(CELLS, max_size=6), max_size=8).map(lambda rows: "\n".join(",".join(row) for row in rows))
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
CONTENT = st.one_of(
    st.binary(max_size=300),
    st.tuples(TABLES, ENCODINGS).map(lambda pair: pair[0].encode(pair[1], "replace")),
    st.binary(max_size=100).map(lambda tail: b"PK\x03\x04" + tail),
    st.binary(max_size=100).map(lambda tail: b"\x1f\x8b\x08\0" + tail),
)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(CONTENT)
def test_every_content_gets_an_answer(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table.csv")
        path.write_bytes(content)
        table = read_table(path)
    assert table.rows or any(f.severity == "error" for f in table.findings)
    assert all(len(row.cells) == len(table.columns) for row in table.rows)
    assert all(f.code and f.sentence.endswith(".") and f.file == "table.csv" for f in table.findings)
    if table.rows:
        proposal = propose_mapping(table)
        assert not proposal.mapping.patient or proposal.mapping.patient in table.columns
        assert all(f.sentence and f.hint for f in proposal.questions)
