"""The study commands: a second call computes nothing, a lost cell alone is computed again, and the tables say what the cells say."""

import json

import numpy as np
import pytest

from ml.simulate.worlds import WORLDS
from ml.studies import hex as hex_study
from ml.studies import hex_worlds, mica_worlds
from ml.studies.cells import Cells
from ml.studies.hex_report import report as hex_report
from ml.studies.mica_report import report as mica_report
from ml.studies.report import verdict
from ml.studies.spots import from_other_blocks, gene_r, section_figures

TINY_HEX = hex_worlds.Size(seeds=(0,), patients=4, size_px=512, epochs=2, worlds=("mixed",), losses=("HEX, MSE",))
TINY_MICA = mica_worlds.Size(
    seeds=(0,), patients=24, reference=8, size_px=512, folds=2, epochs=1, width=16, worlds=("invisible",), networks=("H&E alone",)
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def hex_cells(tmp_path_factory):
    cells = Cells(tmp_path_factory.mktemp("hex"), say=lambda line: None)
    hex_worlds.run(cells, TINY_HEX)
    return cells


@pytest.fixture(scope="module")
def mica_cells(tmp_path_factory):
    cells = Cells(tmp_path_factory.mktemp("mica"), say=lambda line: None)
    mica_worlds.run(cells, TINY_MICA)
    return cells


def again(cells):
    return Cells(cells.folder, say=lambda line: None)


def test_a_second_call_computes_nothing(hex_cells, mica_cells):
    assert len(hex_cells.computed) == 2 and len(mica_cells.computed) == 3
    for cells, run, size in ((hex_cells, hex_worlds.run, TINY_HEX), (mica_cells, mica_worlds.run, TINY_MICA)):
        second = again(cells)
        run(second, size)
        assert second.computed == []


def test_a_lost_or_half_written_cell_alone_is_computed_again(mica_cells):
    (mica_cells.folder / "mica__invisible__0__linear.json").write_text('{"key": {"ta')
    second = again(mica_cells)
    mica_worlds.run(second, TINY_MICA)
    assert second.computed == ["mica__invisible__0__linear"]


def test_other_settings_are_another_cell(tmp_path):
    made = []
    cells = Cells(tmp_path, say=lambda line: None)
    for settings in ({"epochs": 1}, {"epochs": 1}, {"epochs": 2}):
        cells.get({"task": "t", "variant": "a, b & c"}, settings, lambda: made.append(1) or {"n": len(made)})
    assert len(made) == 2 and [c["result"]["n"] for c in cells.all()] == [2]
    kept = json.loads((tmp_path / "t__a-b-c.json").read_text())
    assert {"key", "settings", "seconds", "cpu_seconds", "code", "result"} == set(kept)


def test_hidden_proteins_are_locked_and_the_table_says_so(hex_cells):
    text = hex_report(hex_cells.all())
    assert text.count("\n| HEX, MSE | not run | ") == 2 and ", not run" not in text  # r within slides, locked
    assert "Every hidden marker is locked" in text and "## her2st\n\nNot computed." in text
    found = [c for c in hex_cells.all() if c["key"]["variant"] == "HEX, MSE"]
    found[0]["result"]["locked"] = []
    told = hex_report(found + [c for c in hex_cells.all() if c["key"]["variant"] == "baselines"])
    assert "**20 hidden markers are not locked" in told


def test_no_path_of_the_machine_is_in_a_report(hex_cells, mica_cells):
    for text in (hex_report(hex_cells.all()), mica_report(mica_cells.all())):
        assert str(hex_cells.folder.parent) not in text and "/home" not in text and "nan" not in text


def test_the_report_of_mica_gives_c_of_the_true_hazard_first_hand(mica_cells):
    from ml.mica.evaluate import within_folds
    from ml.types import Outcomes

    cohort = next(c["result"] for c in mica_cells.all() if c["key"]["variant"] == "cohort")
    outcomes = Outcomes(tuple(cohort["patients"]), np.array(cohort["time"]), np.array(cohort["event"]), "OS")
    c = within_folds(outcomes, np.array(cohort["fold"]), np.array(cohort["hazard"]))
    text = mica_report(mica_cells.all())
    assert f"| true hazard | {c:.3f} (" in text and c > 0.6
    assert "| MICA, measured proteins | not run |" in text
    assert len(cohort["locked"]) == 40 and "40 of 40" in text
    assert set(WORLDS) == {"visible", "mixed", "invisible"}


def test_a_verdict_is_made_of_its_numbers():
    assert "is above" in verdict("A", "B", 0.1, [0.05, 0.1, 0.2], "C")
    assert "is below" in verdict("A", "B", -0.1, [-0.05, -0.1, -0.2], "C")
    assert "cannot be told apart" in verdict("A", "B", 0.1, [-0.1, 0.1, 0.2], "C")


def test_a_head_is_never_said_to_beat_a_ridge_that_it_does_not_beat():
    from ml.studies.hex_report import _against_ridge

    def cell(variant, value, seed=None):
        figures = {"median_r": value, "share_good": 0.1, "draws_median_r": [value - 0.01, value + 0.01], "spots": 9}
        key = {"task": "her2st", "fit": "C2", "variant": variant} | ({} if seed is None else {"seed": seed})
        return {"key": key, "result": {"sections": {"C3": figures}}}

    ridge = cell("ridge, same features", 0.2)
    assert "**Ridge wins or draws everywhere.**" in _against_ridge([ridge, cell("head, MSE", 0.1, 0)])
    told = _against_ridge([ridge, cell("head, MSE", 0.3, 0)])
    assert "Ridge wins" not in told and "Highest median r: C2 → C3 head, MSE (0.300)." in told


# --- figures of a section


def test_r_per_gene_is_pearsons_and_the_bootstrap_redraws_whole_blocks():
    rng = np.random.default_rng(0)
    truth, blocks = rng.normal(size=(60, 5)), np.repeat(np.arange(6), 10)
    values = truth + rng.normal(size=(60, 5))
    values[:, 3], truth[:, 4] = 1.0, 2.0
    r = gene_r(values, truth, np.ones((1, 60)))[0]
    assert np.allclose(r[:3], [np.corrcoef(values[:, j], truth[:, j])[0, 1] for j in range(3)])
    assert r[3] == 0 and np.isnan(r[4])
    twice = np.repeat(np.array([2.0, 0, 1, 1, 1, 1]), 10)
    rows = np.repeat(np.arange(60), twice.astype(int))
    assert np.allclose(gene_r(values, truth, twice[None])[0, 0], np.corrcoef(values[rows, 0], truth[rows, 0])[0, 1])
    figures = section_figures(values, truth, blocks, draws=200, seed=1)
    assert figures["genes"] == 4 and figures["r"][4] is None
    assert np.quantile(figures["draws_median_r"], 0.025) < figures["median_r"] < np.quantile(figures["draws_median_r"], 0.975)
    assert section_figures(values, truth, blocks, draws=200, seed=1)["draws_median_r"] == figures["draws_median_r"]


def test_coordinates_never_read_their_own_block():
    grid = np.array([(x, y) for y in range(8) for x in range(8)], float)
    blocks = (grid[:, 0] // 4 + 2 * (grid[:, 1] // 4)).astype(int)
    truth = (blocks == 0).astype(float)[:, None]
    assert not from_other_blocks(grid, truth, blocks)[blocks == 0].any()


def test_without_the_real_sections_the_command_says_where_to_name_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TISSUEBOARD_DATA", str(tmp_path))
    monkeypatch.setenv("TISSUEBOARD_HOME", str(tmp_path))
    assert hex_study.main(["her2st", "--quick"]) == 2
    assert "TISSUEBOARD_DATA" in capsys.readouterr().err
