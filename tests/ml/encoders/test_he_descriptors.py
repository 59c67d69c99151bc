"""Fixed descriptors: each name says what it measures, one tile at a time, whatever else is in the batch."""

import numpy as np
import pytest

from ml.encoders.descriptors import NAMES, describe, fingerprint
from ml.encoders.runtime import load_encoder

H_AND_E = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])


def stained(hematoxylin, eosin):
    """(S, S) amounts in optical density -> (S, S, 3) uint8."""
    vectors = H_AND_E / np.linalg.norm(H_AND_E, axis=1, keepdims=True)
    density = hematoxylin[..., None] * vectors[0] + eosin[..., None] * vectors[1]
    return np.round(255 * 10**-density).astype(np.uint8)


def value(tile, name):
    return float(describe(tile[None], 1.0)[0, NAMES.index(name)])


def flat(hematoxylin=0.0, eosin=0.0, px=112):
    return stained(np.full((px, px), hematoxylin), np.full((px, px), eosin))


def test_the_entry_declares_what_it_gives():
    encoder = load_encoder("he-descriptors")
    assert encoder.dim == len(NAMES) == len(set(NAMES)) and encoder.spec.label == "fixed descriptors, nothing trained"
    assert encoder.weights_sha256 == fingerprint() and len(fingerprint()) == 64
    tile = np.random.default_rng(0).integers(0, 256, (5, 112, 112, 3), np.uint8)
    np.testing.assert_array_equal(encoder(tile), describe(tile, 1.0))


def test_stains_are_measured_in_optical_density_without_a_scale_of_the_slide():
    assert value(flat(0.4, 0.2), "hematoxylin_q50") == pytest.approx(0.4, abs=0.01)
    assert value(flat(0.4, 0.2), "eosin_q50") == pytest.approx(0.2, abs=0.01)
    assert value(flat(0.8, 0.2), "hematoxylin_mean") == pytest.approx(2 * value(flat(0.4, 0.2), "hematoxylin_mean"), rel=0.03)
    assert value(flat(), "lumen_share") == 1 and value(flat(), "red_mean") == 1


def test_a_tile_does_not_depend_on_the_others_of_its_batch():
    tiles = np.random.default_rng(1).integers(0, 256, (40, 112, 112, 3), np.uint8)
    np.testing.assert_array_equal(describe(tiles, 1.0)[7:9], describe(tiles[7:9], 1.0))


def test_stripes_show_in_the_step_of_their_width_and_in_the_coherence():
    columns = np.arange(112)
    fine, wide = (np.broadcast_to(np.where(columns // w % 2, 0.6, 0.1), (112, 112)) for w in (2, 8))
    steps = [[value(stained(h, np.zeros((112, 112))), f"hematoxylin_step_{um}um") for um in (2, 8)] for h in (fine, wide)]
    assert steps[0][0] > steps[0][1] and steps[1][1] > steps[1][0]
    assert value(stained(wide, np.zeros((112, 112))), "orientation_coherence") > 0.9


def test_a_nucleus_is_counted():
    y, x = np.mgrid[:112, :112]
    hematoxylin = sum(0.9 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 18) for cy, cx in ((20, 20), (60, 30), (80, 90)))
    per_1000_um2 = value(stained(hematoxylin, np.full((112, 112), 0.1)), "nuclear_density")
    assert per_1000_um2 == pytest.approx(3 * 1000 / 112**2, rel=0.01)
