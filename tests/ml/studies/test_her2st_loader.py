"""Sections of her2st from their originals: joins, scale, tiles."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from ml.studies.her2st import PICTURES, PITCH_UM, TILE_PX, her2st_genes, load_section

GENES = ("ERBB2", "CD74", "GAPDH")


@pytest.fixture(scope="module")
def sections(data):
    return {name: load_section(data, name, genes=GENES) for name in ("C2", "A1")}


def test_spots_are_joined_by_their_place_on_the_array(data, sections):
    section = sections["C2"]
    counts = pd.read_csv(data / "her2st" / "ST-cnts" / "C2.tsv.gz", sep="\t", index_col=0)
    raw = counts.loc[list(section.spots)]
    assert np.allclose(section.expression, np.log1p(1e4 * raw[list(GENES)].to_numpy() / raw.sum(axis=1).to_numpy()[:, None]), atol=1e-5)
    assert len(section) == 185 and section.left_out == {"no counts": 0, "under 500 counts": 2}
    assert len(sections["A1"]) == 345 and sections["A1"].left_out["no counts"] == 2
    assert section.patient == "C" and section.genes == GENES


@pytest.mark.parametrize("name", ["C2", "A1"])
def test_listed_resolution_agrees_with_the_spacing_of_the_spots(sections, name):
    section = sections[name]
    near = cKDTree(section.grid).query(section.grid, k=2)
    other = near[1][:, 1]
    px_per_spot = np.median(np.hypot(*(section.pixels - section.pixels[other]).T) / near[0][:, 1])
    assert PITCH_UM / px_per_spot == pytest.approx(PICTURES[name].mpp, rel=0.04)
    assert section.mpp == pytest.approx(PICTURES[name].mpp * (1 if name == "C2" else 6954 / 2000), rel=1e-3)


def test_tiles_show_tissue_and_no_black_ground(sections):
    for section in sections.values():
        assert section.tiles.shape == (len(section), TILE_PX, TILE_PX, 3) and section.tiles.dtype == np.uint8
        light = section.tiles.mean(axis=(1, 2, 3))
        assert np.median(light) < 200 and (section.tiles.max(axis=3) < 8).mean() < 0.01


def test_a_picture_can_be_shrunk_to_anothers_resolution(data, sections):
    shrunk = load_section(data, "C2", genes=GENES, at_mpp=3.2)
    assert shrunk.mpp == pytest.approx(3.2, rel=0.01) and shrunk.tiles.shape == sections["C2"].tiles.shape
    sharp, blurred = (np.abs(np.diff(s.tiles.astype(float), axis=2)).mean() for s in (sections["C2"], shrunk))
    assert blurred < 0.7 * sharp
    same_place = np.corrcoef(sections["C2"].tiles.mean(axis=(1, 2, 3)), shrunk.tiles.mean(axis=(1, 2, 3)))[0, 1]
    assert same_place > 0.98


def test_blocks_are_squares_of_spots(sections):
    section = sections["C2"]
    for block in np.unique(section.blocks):
        assert (np.ptp(section.grid[section.blocks == block], axis=0) <= 4).all()
    assert 10 < len(np.unique(section.blocks)) < 25


def test_unknown_sections_and_genes_are_named(data):
    assert len(her2st_genes(data)) == 785
    with pytest.raises(KeyError, match=r"B1.*C2, C3, C4, A1"):
        load_section(data, "B1")
    with pytest.raises(KeyError, match="NOGENE"):
        load_section(data, "C2", genes=("NOGENE",))
