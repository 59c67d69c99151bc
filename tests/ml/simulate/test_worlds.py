"""Three worlds: what H&E shows is what is painted, and a hidden protein has its law but nothing of its place."""

import numpy as np
import pytest

from ml.hex.evaluate import slide_figures
from ml.hex.panel import HEX_PANEL
from ml.simulate import SimulatorConfig, simulate_patient, tile_labels
from ml.simulate.bags import DRIVERS, FEATURES, SUMMARY, map_tokens, simulate_bags, summary
from ml.simulate.worlds import WORLDS, hidden_markers, neighbours, tissue_grid, world_amounts, world_labels
from ml.survival.concordance import concordance

CONFIG = SimulatorConfig(size_px=1024)
PEOPLE = 12


@pytest.fixture(scope="module")
def slides():
    """(patient, grid, labels in the visible world, in the mixed one, in the invisible one) of twelve patients."""
    rows = []
    for index in range(PEOPLE):
        patient = simulate_patient(index, seed=21, config=CONFIG)
        grid = tissue_grid(patient.tissue)
        rows.append((patient, grid, *(world_labels(patient, grid, world, seed=3) for world in WORLDS)))
    return rows


def test_the_visible_world_is_what_the_assay_reads(slides):
    for patient, grid, visible, *_ in slides:
        assert np.array_equal(visible, tile_labels(patient.tissue, grid, CONFIG).values)
        assert (grid.tissue >= 0.5).all() and len(grid) > 20


def test_the_mixed_world_hides_every_second_protein_and_no_other(slides):
    hidden = [m in hidden_markers("mixed") for m in HEX_PANEL]
    assert sum(hidden) == 20 and hidden_markers("visible") == () and hidden_markers("invisible") == HEX_PANEL
    for patient, grid, *_ in slides[:3]:
        there, mixed, gone = (world_amounts(patient, grid, world, seed=3) for world in WORLDS)
        assert np.array_equal(mixed[:, ~np.array(hidden)], there[:, ~np.array(hidden)])
        assert np.array_equal(mixed[:, hidden], gone[:, hidden])
    with pytest.raises(KeyError, match="visible, mixed, invisible"):
        hidden_markers("blue")


def test_a_hidden_protein_has_nothing_to_do_with_the_visible_one(slides):
    ids = np.repeat([patient.code for patient, *_ in slides], [len(grid) for _, grid, *_ in slides])
    visible, invisible = (np.concatenate([row[k] for row in slides]) for k in (2, 4))
    figures = slide_figures(invisible, visible, ids, ids)
    assert abs(np.nanmean(figures.r)) < 0.05  # 12 x 40 correlations of about 55 tiles
    between = [np.corrcoef(figures.means[:, j], figures.predicted_means[:, j])[0, 1] for j in range(40)]
    assert abs(np.mean(between)) < 0.4  # twelve slides


def test_it_has_the_same_law_and_is_as_smooth(slides):
    visible, invisible = (np.concatenate([row[k] for row in slides]) for k in (2, 4))
    assert np.corrcoef(visible.mean(axis=0), invisible.mean(axis=0))[0, 1] > 0.9
    assert np.corrcoef(visible.std(axis=0), invisible.std(axis=0))[0, 1] > 0.9
    near = {}
    for k in (2, 4):
        near[k] = np.mean([[_next(row[k][:, j], row[1]) for j in range(40)] for row in slides])
    assert near[2] > 0.25 and abs(near[2] - near[4]) < 0.15


def _next(values, grid):
    one, two = neighbours(grid, 1)
    return np.corrcoef(values[one], values[two])[0, 1] if values.std() > 1e-6 else 0.0


def test_each_marker_patient_and_seed_has_a_stream_of_its_own(slides):
    patient, grid, _, _, first = slides[0]
    assert np.array_equal(first, world_labels(patient, grid, "invisible", seed=3))
    other = world_labels(patient, grid, "invisible", seed=4)
    assert max(abs(np.corrcoef(first[:, j], other[:, j])[0, 1]) for j in range(5)) < 0.75
    between = np.corrcoef(first[:, [1, 2, 4, 7]].T)[np.triu_indices(4, 1)]
    assert np.abs(between).max() < 0.75


# --- bags


@pytest.fixture(scope="module")
def bags():
    return {world: simulate_bags(n=24, world=world, seed=5, reference=16, size_px=1024) for world in WORLDS}


def test_a_bag_holds_what_mica_reads(bags):
    for bag in bags["mixed"]:
        tiles = len(bag.he)
        assert bag.he.shape == (tiles, FEATURES) and bag.measured.shape == bag.virtual.shape == (tiles, 40)
        assert bag.codex_measured.shape == bag.codex_virtual.shape == (40, 40 * len(SUMMARY))
        assert np.isfinite(bag.codex_virtual).all() and bag.measured.min() >= 0 and bag.measured.max() <= 1
        assert bag.time >= 1 and isinstance(bag.event, bool)
    assert len({bag.patient for bag in bags["mixed"]}) == 24


def test_the_picture_is_the_same_in_all_worlds(bags):
    for one, other in zip(bags["visible"], bags["invisible"]):
        assert np.array_equal(one.he, other.he) and not np.array_equal(one.measured, other.measured)


def test_virtual_proteins_tell_of_visible_ones_alone(bags):
    def median_r(world):
        ids = np.repeat([b.patient for b in bags[world]], [len(b.he) for b in bags[world]])
        virtual, measured = (np.concatenate([getattr(b, name) for b in bags[world]]) for name in ("virtual", "measured"))
        return np.nanmedian(slide_figures(virtual, measured, ids, ids).r, axis=0)

    hidden = np.array([m in hidden_markers("mixed") for m in HEX_PANEL])
    assert np.median(median_r("visible")) > 0.6 and np.median(median_r("mixed")[~hidden]) > 0.6
    assert abs(np.median(median_r("mixed")[hidden])) < 0.1 and abs(np.median(median_r("invisible"))) < 0.1


def test_survival_follows_the_hazard_and_the_hazard_the_proteins_of_the_world(bags):
    for world in WORLDS:
        time, event, hazard = (np.array([getattr(b, name) for b in bags[world]]) for name in ("time", "event", "log_hazard"))
        assert concordance(time, event, hazard).c > 0.65 and 0.2 < event.mean() < 0.8
    names, sign = DRIVERS[3]
    column = HEX_PANEL.index(names[0])
    for world in ("visible", "invisible"):
        amount = np.log([b.measured[:, column].mean() + 1e-3 for b in bags[world]])
        assert sign * np.corrcoef(amount, [b.log_hazard for b in bags[world]])[0, 1] > 0.3


def test_a_token_lies_in_its_markers_slot():
    from ml.simulate.bags import TokenUnit
    from ml.types import TileGrid

    grid = TileGrid(np.array([(x, y) for y in range(4) for x in range(4)]) * 10, 10.0, 0.5, (40, 40))
    values = np.random.default_rng(0).random((16, 3))
    unit = TokenUnit(np.full(3, 0.5), np.zeros((3, 9)), np.ones((3, 9)))
    tokens = map_tokens(values, grid, unit).reshape(3, 3, 9)
    assert np.allclose(tokens[[0, 1, 2], [0, 1, 2]], summary(values, grid, unit.median)) and not tokens[0, 1:].any()
    assert np.allclose(tokens[1, 1, 0], values[:, 1].mean()) and np.allclose(tokens[2, 2, 7], (values[:, 2] > 0.5).mean())
