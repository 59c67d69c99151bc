"""Where crops come from: the published example's tiles exactly, random sub-images with tissue, never off the allowed pixels."""

import numpy as np
import pandas as pd
import pytest

from ml.virtues.errors import VirtuesError
from ml.virtues.tiling import Shares, flush_starts, greedy_tiles, random_subimages


@pytest.mark.realdata
def test_the_published_tiles_are_found_in_their_order(data):
    example = data / "imc" / "virtues_example"
    tissue = np.load(next((example / "segmentations" / "1_0mpp" / "tissue_masks").glob("*.npz")))["mask"].astype(bool)
    published = pd.read_parquet(example / "tiling" / "1_0mpp" / "default" / "128_tile_coordinates.parquet")
    stats = pd.read_parquet(example / "tiling" / "1_0mpp" / "default" / "128_tile_stats.parquet").iloc[0]
    tiles = greedy_tiles(tissue)
    assert tiles.tolist() == published[["row", "col"]].to_numpy().tolist()
    covered = np.zeros_like(tissue)
    for row, col in tiles:
        covered[row : row + 128, col : col + 128] = True
    assert (covered & tissue).sum() == stats["covered_valid_pixels"] and tissue.sum() == stats["total_valid_pixels"]


def test_windows_end_flush_with_the_edge_and_none_is_there_twice():
    assert flush_starts(10, 4, 4) == [0, 4, 6] and flush_starts(8, 4, 4) == [0, 4] and flush_starts(4, 4, 4) == [0]


def test_every_tile_adds_what_it_was_taken_for():
    tissue = np.zeros((64, 64), bool)
    tissue[:40, :24] = True
    tiles = greedy_tiles(tissue, 16, min_gain=0.5)
    gained, seen = [], np.zeros_like(tissue)
    for row, col in tiles:
        gained.append(int((tissue[row : row + 16, col : col + 16] & ~seen[row : row + 16, col : col + 16]).sum()))
        seen[row : row + 16, col : col + 16] = True
    assert gained == sorted(gained, reverse=True) and (seen & tissue).sum() >= 0.95 * tissue.sum()


def test_random_subimages_hold_tissue_and_stay_where_they_may():
    tissue, allowed = np.zeros((80, 80), bool), np.ones((80, 80), bool)
    tissue[:50] = True
    allowed[:, 60:] = False
    corners = random_subimages(tissue, 20, 4, 0.3, np.random.default_rng(0), allowed)
    assert len(corners) == 4 * 10, "four for each of the ten squares that 50 x 80 px hold"
    assert (Shares(tissue).of(corners, 20) >= 0.3).all() and (Shares(allowed).of(corners, 20) == 1).all()
    tiles = greedy_tiles(tissue, 20, allowed=allowed)
    assert len(tiles) and (tiles[:, 1] <= 40).all()


def test_an_image_without_room_is_refused_in_a_sentence():
    with pytest.raises(VirtuesError, match="no room for a square of 128") as caught:
        greedy_tiles(np.ones((100, 300), bool))
    assert caught.value.code == "image_small"
