"""Features of real slides and of files that only look like slides: vectors or a finding, never a crash, and the good ones are done."""

import numpy as np
import pytest

from ml.encoders.extract import Extraction, extract_slides
from ml.encoders.runtime import load_encoder
from ml.slides.features import check_bag, read_bag
from ml.slides.findings import FindingCode
from ml.slides.reader import open_slide

REFUSED = {
    "boxes": FindingCode.LEVEL_TOO_LOW,
    "multiframe_camelyon_challenge_image": FindingCode.LEVEL_TOO_LOW,
    "yb10kx5k.zstd": FindingCode.LEVEL_TOO_LOW,
    "tcga-cr-7395-01a-01-ts1": FindingCode.MPP_MISSING,
    "unreadable": FindingCode.TILE_UNREADABLE,
    "invalid_resolutions_tiff": FindingCode.MPP_MISSING,
    "broken": FindingCode.UNSUPPORTED_FORMAT,
}


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("he-descriptors")


def test_one_run_over_everything_that_is_there(data, encoder, tmp_path):
    paths = [
        path
        for folder in ("wsi", "malformed")
        for path in sorted((data / folder).iterdir())
        if path.suffix in (".svs", ".tif", ".tiff", ".dcm")
    ]
    found = {one.name: one for one in extract_slides(paths, encoder, tmp_path)}
    assert len(found) == len(paths)
    done = {name for name, one in found.items() if isinstance(one, Extraction)}
    assert "cmu-1-small-region" in done and not done & set(REFUSED)
    assert {name: found[name].error.code for name in REFUSED} == REFUSED
    assert all(found[name].error.sentence.endswith(".") for name in set(found) - done)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.h5" for name in done)
    assert all(check_bag(tmp_path / f"{name}.h5").n == found[name].n_tiles for name in done)


def test_a_given_mpp_lets_a_slide_without_one_through(data, encoder, tmp_path):
    path = data / "wsi" / "tcga-cr-7395-01a-01-ts1.svs"
    (found,) = extract_slides([path], encoder, tmp_path, mpp=0.25)
    bag = read_bag(found.target)
    assert found.n_tiles > 10 and bag.grid.mpp == 0.25 and bag.grid.tile_um == pytest.approx(112, rel=1e-6)
    with open_slide(path, mpp=0.25) as opened:
        assert np.array_equal(bag.features[:8], encoder(next(opened.tiles(bag.grid, encoder.input_px, batch=8))))
