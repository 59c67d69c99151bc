"""The study of many tissues: cells are computed once, answers are checked, and its section leaves the rest of the document alone."""

from ml.studies.cells import Cells
from ml.studies.retrieval_scale import KINDS as TISSUES
from ml.studies.retrieval_scale import Size, World, run
from ml.studies.retrieval_scale_report import END, START, put, section


def test_cells_are_computed_once_and_told_in_the_section(tmp_path):
    size = Size((("tissues", 60, 2), ("weighted", 40, 1)), added=6)
    cells = Cells(tmp_path, say=lambda line: None)
    run(cells, size)
    assert len(cells.computed) == 2 and not (tmp_path / "index").exists()
    again = Cells(tmp_path, say=lambda line: None)
    run(again, size)
    assert again.computed == []
    for cell in again.all():
        told = [*cell["result"]["queries"], cell["result"]["after_update"]]
        assert all(one["same"] and one["apart"] < 1e-9 for one in told)
        assert all(one["searched"] == cell["key"]["n"] - 2 for one in cell["result"]["queries"])  # the patient's two are left out
    text = " ".join(section(again.all()).split())
    assert "2 of 2" in text and "Every answer was that of the loop." in text and "weighted" in text


def test_tissues_can_be_drawn_one_by_one_and_patients_share_an_offset():
    world = World(TISSUES["tissues"], 0)
    assert (world.tissue(7).vectors == dict(world.tissues(5, 9))[7].vectors).all()
    assert (world.tissue(7).vectors != World(TISSUES["tissues"], 1).tissue(7).vectors).any()
    sizes = {len(one.weights) for _, one in World(TISSUES["weighted"], 0).tissues(0, 60)}
    assert min(sizes) == 4 and max(sizes) == 16


def test_the_section_stands_between_its_marks(tmp_path):
    path = tmp_path / "retrieval.md"
    put(path, "first")
    assert path.read_text().startswith("# Retrieval") and f"{START}\nfirst\n{END}" in path.read_text()
    path.write_text(path.read_text() + "\nAnother study.\n")
    put(path, "second")
    assert "first" not in path.read_text() and f"{START}\nsecond\n{END}" in path.read_text()
    assert path.read_text().endswith("Another study.\n")
