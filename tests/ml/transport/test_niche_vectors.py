"""Niches: which tiles make them, what their vectors hold, and that each block weighs the same."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import families
from ml.transport.config import BlockWeights, NicheConfig
from ml.transport.errors import TransportError
from ml.transport.lattice import niches_of
from ml.transport.niches import BLOCKS, NicheModel, all_niches, fit, predict, vectors
from ml.types import TileGrid


def tile_grid(rng, columns=12, rows=10, mpp=0.5, tile_um=56.0, keep=1.0):
    tile_px0 = tile_um / mpp
    col, row = (v.ravel() for v in np.meshgrid(np.arange(columns), np.arange(rows)))
    xy = np.round(np.stack([col, row], axis=1) * tile_px0).astype(np.int64)
    kept = rng.random(len(xy)) < keep
    kept[0] = True
    tissue = rng.random(kept.sum()).astype(np.float32)
    return TileGrid(xy[kept], tile_px0, mpp, (int(columns * tile_px0) + 1, int(rows * tile_px0) + 1), tissue)


def slide(seed, markers=5, descriptors=3, constant=False, **layout):
    rng = np.random.default_rng(seed)
    grid = tile_grid(rng, **layout)
    proteins = rng.random((len(grid), markers)).astype(np.float32)
    morphology = (rng.normal(size=(len(grid), descriptors)) * 10).astype(np.float32)
    if constant:
        proteins[:, 1] = 0.37
    return grid, proteins, morphology


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([0.25, 0.499, 0.5, 1.1]),
    st.sampled_from([40.0, 56.0, 64.0, 128.0]),
    st.sampled_from([0.0, 0.3, 0.9]),
)
def test_niches_are_those_of_going_through_the_tiles_one_by_one(seed, columns, rows, mpp, tile_um, min_tissue):
    rng = np.random.default_rng(seed)
    grid = tile_grid(rng, columns, rows, mpp, tile_um, keep=0.8)
    found = niches_of(grid, min_tissue, 128.0)
    side, members = 128.0 / mpp, {}
    for tile, (x, y) in enumerate(grid.xy):
        column, row = int((x + grid.tile_px0 / 2) // side), int((y + grid.tile_px0 / 2) // side)
        members.setdefault((row, column), []).append(tile)
    share = {key: min(1.0, sum(float(grid.tissue[t]) * tile_um**2 for t in tiles) / 128.0**2) for key, tiles in members.items()}
    kept = [key for key in sorted(members) if share[key] >= min_tissue]
    assert found.n_found == len(members)
    assert found.tissue == pytest.approx([share[key] for key in kept])
    assert found.boxes == pytest.approx(np.array([[c * side, r * side, side, side] for r, c in kept]).reshape(-1, 4))
    expected = np.full(len(grid), -1)
    for number, key in enumerate(kept):
        expected[members[key]] = number
    assert np.array_equal(found.tile_niche, expected)
    assert np.array_equal(found.n_tiles, [len(members[key]) for key in kept])


def test_a_niche_needs_thirty_percent_of_its_area():
    tile = 56.0
    needed = 0.30 * 128**2 / tile**2  # 1.57 tiles full of tissue

    def kept(shares):
        xy = np.array([[0, 0], [112, 0], [0, 112], [112, 112]])[: len(shares)]
        return len(niches_of(TileGrid(xy, 112.0, 0.5, (256, 256), np.array(shares, np.float32))).boxes)

    assert kept([1.0, needed - 1 + 0.01]) == 1
    assert kept([1.0, needed - 1 - 0.01]) == 0


def test_a_niche_holds_the_means_and_spreads_of_its_tiles():
    grid, proteins, morphology = slide(1)
    niches = all_niches(grid, proteins, morphology)
    assert len(niches) > 10
    for number in range(len(niches)):
        tiles = niches.tile_niche == number
        assert niches.protein_mean[number] == pytest.approx(proteins[tiles].mean(axis=0), abs=1e-6)
        assert niches.protein_sd[number] == pytest.approx(proteins[tiles].std(axis=0), abs=1e-6)
        assert niches.morphology[number] == pytest.approx(morphology[tiles].mean(axis=0), abs=1e-5)
        assert niches.boxes[number, 2:] * grid.mpp == pytest.approx([128, 128])


def test_a_single_tile_has_no_spread():
    grid = TileGrid(np.array([[0, 0]]), 240.0, 0.5, (256, 256), np.ones(1, np.float32))
    niches = all_niches(grid, np.array([[0.2, 0.9]], np.float32), np.ones((1, 1), np.float32))
    assert niches.protein_sd.tolist() == [[0.0, 0.0]]


def test_each_block_contributes_the_same_to_a_squared_distance_whatever_its_length_and_unit():
    tissues = [all_niches(*slide(seed, markers=40, descriptors=3)) for seed in range(4)]
    scaled = np.concatenate([vectors(fit(tissues), t) for t in tissues]).astype(np.float64)
    ends = np.cumsum([40, 40, 3])
    share = [block.var(axis=0).sum() for block in np.split(scaled, ends[:-1], axis=1)]
    # the squared distance of two random niches is on average twice the summed variance
    assert share == pytest.approx([1, 1, 1], rel=0.02)


def test_a_weight_is_the_share_of_a_block_in_the_squared_distance():
    tissue = all_niches(*slide(0))
    model = fit([tissue], NicheConfig(weights=BlockWeights(protein_mean=1, protein_sd=0, morphology=4)))
    parts = np.split(vectors(model, tissue).astype(np.float64), [5, 10], axis=1)
    assert [p.var(axis=0).sum() for p in parts] == pytest.approx([1, 0, 4], rel=1e-4)


def test_each_reference_tissue_counts_once_however_large():
    small, large = all_niches(*slide(0, columns=6, rows=6)), all_niches(*slide(1, columns=30, rows=30))
    model = fit([small, large])
    assert len(large) > 10 * len(small)
    expected = (small.morphology.mean(axis=0) + large.morphology.mean(axis=0)) / 2
    assert model.means["morphology"] == pytest.approx(expected, abs=1e-5)


def test_near_constant_dimensions_contribute_nothing_and_the_others_make_up_for_them():
    tissues = [all_niches(*slide(seed, constant=True)) for seed in range(3)]
    model = fit(tissues)
    assert model.scale("protein_mean")[1] == 0 and model.scale("protein_sd")[1] == 0
    other = all_niches(*slide(9))  # here the marker does vary
    assert (vectors(model, other)[:, 1] == 0).all()
    scaled = np.concatenate([vectors(model, t) for t in tissues]).astype(np.float64)
    assert scaled[:, :5].var(axis=0).sum() == pytest.approx(1, rel=0.02)


def test_a_retrieval_set_is_made_of_real_niches_and_is_always_the_same():
    grid, proteins, morphology = slide(3, columns=40, rows=40)
    niches = all_niches(grid, proteins, morphology)
    model = fit([niches])
    found, again = predict(model, grid, proteins, morphology), predict(model, grid, proteins, morphology)
    assert len(found.weights) == 16 and found.weights.sum() == pytest.approx(1)
    assert np.array_equal(found.vectors, again.vectors) and np.array_equal(found.weights, again.weights)
    everything = np.concatenate([vectors(model, niches), niches.boxes.astype(np.float32)], axis=1)
    for row in np.concatenate([found.vectors, found.boxes.astype(np.float32)], axis=1):
        assert (everything == row).all(axis=1).sum() == 1
    few = predict(model, grid, proteins, morphology, NicheConfig(max_medoids=4))
    assert len(few.weights) == 4


def test_a_model_survives_json_to_the_last_digit():
    grid, proteins, morphology = slide(4)
    model = fit([all_niches(grid, proteins, morphology)], NicheConfig(max_medoids=5))
    back = NicheModel.from_json(json.loads(json.dumps(model.to_json())))
    assert back.config == model.config and back.n_tissues == 1 and back.dim == 13
    for name in BLOCKS:
        assert np.array_equal(back.scale(name), model.scale(name))
    assert np.array_equal(predict(back, grid, proteins, morphology).vectors, predict(model, grid, proteins, morphology).vectors)
    for wrong in ({}, {**model.to_json(), "format": "other"}, {**model.to_json(), "blocks": {}}):
        with pytest.raises(TransportError) as refused:
            NicheModel.from_json(wrong)
        assert refused.value.code == "model_format"


def test_the_registry_finds_this_room_and_its_config():
    assert families.runner("niche", "fit") is fit
    assert families.runner("niche", "predict") is predict
    assert families.config_schema("niche", "predict")["properties"]["niche_um"]["default"] == 128.0


def _refusal(ask):
    with pytest.raises(TransportError) as refused:
        ask()
    assert refused.value.sentence.endswith(".") and refused.value.hint.endswith(".")
    return refused.value.code


def test_refusals_name_what_is_wrong():
    grid, proteins, morphology = slide(5)
    niches = all_niches(grid, proteins, morphology)
    model = fit([niches])
    holes = proteins.copy()
    holes[3, 0] = np.nan
    bare = TileGrid(grid.xy, grid.tile_px0, grid.mpp, grid.slide_size)
    glass = TileGrid(grid.xy, grid.tile_px0, grid.mpp, grid.slide_size, np.zeros(len(grid), np.float32))
    percent = TileGrid(grid.xy, grid.tile_px0, grid.mpp, grid.slide_size, np.full(len(grid), 80, np.float32))
    none = TileGrid(np.zeros((0, 2), np.int64), 112.0, 0.5, (10, 10), np.zeros(0, np.float32))
    flat = all_niches(grid, np.ones_like(proteins), np.ones_like(morphology))
    cases = {
        "not_finite": lambda: all_niches(grid, holes, morphology),
        "shape": lambda: all_niches(grid, proteins[1:], morphology),
        "tissue_unknown": lambda: niches_of(bare),
        "tissue_range": lambda: niches_of(percent),
        "no_niche": lambda: all_niches(glass, proteins, morphology),
        "empty": lambda: niches_of(none),
        "tile_too_large": lambda: niches_of(grid, niche_um=50.0),
        "no_reference": lambda: fit([]),
        "no_variation": lambda: fit([flat]),
        "config_mismatch": lambda: predict(model, grid, proteins, morphology, NicheConfig(niche_um=256.0)),
        "dimension": lambda: predict(model, grid, proteins[:, 1:], morphology),
    }
    assert {code: _refusal(ask) for code, ask in cases.items()} == {code: code for code in cases}
    assert _refusal(lambda: fit([niches, all_niches(grid, proteins[:, 1:], morphology)])) == "dimension"
