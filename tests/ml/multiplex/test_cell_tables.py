"""Tables of cells: found columns, numbers kept, texts left behind, and what does not fit the mask counted on both sides."""

import numpy as np
import pandas as pd
import pytest

from ml.multiplex.cell_tables import Columns, match_findings, read_cell_table
from ml.multiplex.cells import types_of
from ml.slides.findings import FindingCode as Code
from ml.slides.findings import SlideError

ROWS = "Image;Object;area;cell_type;Notes\nLungA;3;25,5;T cell;Jane Doe\nLungA;1;30;B cell;\nLungA;7;20;T cell;x\n"


def write(tmp_path, text, name="cells.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def refused(code, *args):
    with pytest.raises(SlideError) as error:
        read_cell_table(*args)
    assert error.value.code == code
    return error.value


def test_ids_types_and_numbers_are_kept_and_texts_are_not(tmp_path):
    table = read_cell_table(write(tmp_path, ROWS.replace("25,5", "25.5")))
    assert (table.id_column, table.types, table.numbers, table.left_out) == ("Object", ("cell_type",), ("area",), ("Image", "Notes"))
    assert list(table.rows.cell_id) == [1, 3, 7] and list(table.rows.area) == [30, 25.5, 20]
    assert table.facts() == {"n_rows": 3, "id_column": "Object", "columns": ["area"], "types": {"cell_type": {"T cell": 2, "B cell": 1}}}
    assert "Jane" not in table.rows.to_csv()
    assert list(types_of(table.rows, [7, 2, 1], "cell_type")) == ["T cell", None, "B cell"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_any_usual_separator(tmp_path, separator):
    text = ROWS.replace("25,5", "25.5").replace(";", separator)
    assert len(read_cell_table(write(tmp_path, "\ufeff" + text)).rows) == 3


def test_columns_may_be_named(tmp_path):
    frame = pd.DataFrame({"nr": [5, 6], "a": ["x", "y"], "b": ["u", None], "Object": [1, 1]})
    frame.to_parquet(tmp_path / "cells.parquet")
    table = read_cell_table(tmp_path / "cells.parquet", Columns("NR", ("b", "A")))
    assert table.types == ("b", "a") and list(table.rows.b) == ["u", None] and table.numbers == ("Object",)
    assert "nr, a, b, Object" in refused(Code.CELL_COLUMN_MISSING, tmp_path / "cells.parquet", Columns("cell")).hint
    refused(Code.CELL_COLUMN_MISSING, tmp_path / "cells.parquet", Columns("nr", ("kind",)))


def test_rows_of_one_image_of_several(tmp_path):
    path = write(tmp_path, "Image,Object,area\na.tiff,1,5\na.tiff,2,6\nb.tiff,1,7\n")
    assert "several images" in refused(Code.CELL_ID_TWICE, path).hint
    assert list(read_cell_table(path, Columns(image="b.tiff")).rows.area) == [7]
    refused(Code.CELL_COLUMN_MISSING, path, Columns(image="c.tiff"))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a,b\n1,2\n", Code.CELL_COLUMN_MISSING),
        ("cell_id,b\n1,2\nx,3\n", Code.CELL_COLUMN_MISSING),
        ("cell_id,cell_id\n1,2\n", None),
        ("cell_id,a\n", Code.CELL_TABLE_UNREADABLE),
        ("\x00\x01binary\x00", Code.CELL_TABLE_UNREADABLE),
        ("", Code.EMPTY_FILE),
    ],
)
def test_what_is_no_table_of_cells_is_refused(tmp_path, text, code):
    path = write(tmp_path, text)
    if code is None:
        assert read_cell_table(path).numbers  # pandas numbers a name that stands there twice
    else:
        refused(code, path)


def test_an_id_is_a_whole_number_from_one(tmp_path):
    for bad in ("0", "-3", "1.5", "x", "", "3000000000"):
        error = refused(Code.CELL_ID_INVALID, write(tmp_path, f"nr,a\n4,1\n{bad},2\n"), Columns("nr"))
        assert error.where == "row 3, column nr"


def test_cells_without_a_row_and_rows_without_a_cell_are_both_told(tmp_path):
    table = read_cell_table(write(tmp_path, ROWS.replace("25,5", "25.5")))
    found = match_findings("cells.csv", table, np.array([1, 2, 4, 7]))
    assert [one.code for one in found] == [Code.CELLS_WITHOUT_MASK, Code.CELLS_WITHOUT_ROW, Code.IDENTIFIERS_IN_HEADER]
    assert (
        "1 of 3" in found[0].sentence and found[0].where == "cells 3" and "2 of 4" in found[1].sentence and found[1].where == "cells 2, 4"
    )
    (none,) = match_findings("cells.csv", table, np.array([100]))
    assert none.severity == "error"


def test_real_tables(data):
    steinbock = read_cell_table(data / "imc/imc_testdata/cells.csv", Columns(image="20210305_NE_mockData1_001.tiff"))
    assert len(steinbock.rows) == 17 and steinbock.id_column == "Object" and "H3K27Ac" in steinbock.numbers and steinbock.types == ()
    spora = read_cell_table(data / "imc/virtues_example/metadata/cells.parquet", Columns(types=("cell_type", "cell_category")))
    assert len(spora.rows) == 2185 and spora.id_column == "cell_id" and len(spora.facts()["types"]["cell_type"]) == 17
    vectra = read_cell_table(next((data / "imc/vectra_fihc4").glob("*cell_seg_data.txt")))
    assert vectra.id_column == "Cell ID" and vectra.types == ("Phenotype",) and "Path" in vectra.left_out
