"""Feature bags: what is written is read back; TRIDENT's own files are read; a truncated file is refused."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.slides.bag_writer import bag_writer
from ml.slides.features import check_bag, read_bag, read_rows, write_bag
from ml.slides.findings import FindingCode, SlideError
from ml.types import FeatureBag, TileGrid


def bag_of(n, d, seed=0, tissue=True):
    rng = np.random.default_rng(seed)
    xy = rng.integers(0, 10_000, (n, 2)).astype(np.int64)
    share = rng.random(n).astype(np.float32) if tissue else None
    return FeatureBag(rng.standard_normal((n, d)).astype(np.float32), TileGrid(xy, 112.2, 0.499, (12_000, 11_000), share), "resnet50")


@settings(max_examples=20, deadline=None)
@given(n=st.integers(0, 40), d=st.integers(1, 9), tissue=st.booleans())
def test_a_bag_comes_back_as_it_went(tmp_path_factory, n, d, tissue):
    path = tmp_path_factory.mktemp("bag") / "bag.h5"
    bag = bag_of(n, d, seed=n, tissue=tissue)
    write_bag(path, bag)
    back = read_bag(path)
    assert np.array_equal(back.features, bag.features) and back.features.dtype == np.float32
    assert np.array_equal(back.grid.xy, bag.grid.xy) and back.grid.xy.dtype == np.int64
    assert (back.grid.tile_px0, back.grid.mpp, back.grid.slide_size) == (112.2, 0.499, (12_000, 11_000))
    assert (back.grid.tissue is None) if not tissue else np.array_equal(back.grid.tissue, bag.grid.tissue)
    assert back.encoder == "resnet50"


def test_the_layout_is_tridents(tmp_path):
    write_bag(tmp_path / "a.h5", bag_of(5, 3), {"name": "slide-1", "patch_size": 224, "target_magnification": 40})
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["features"].shape == (5, 3) and file["features"].dtype == np.float32
        assert file["coords"].shape == (5, 2) and file["coords"].dtype == np.int64
        facts = dict(file["coords"].attrs)
    expected = {
        "patch_size",
        "patch_size_level0",
        "level0_magnification",
        "target_magnification",
        "overlap",
        "level0_width",
        "level0_height",
        "name",
    }
    assert expected <= set(facts) and "savetodir" not in facts
    assert (facts["name"], facts["patch_size"], facts["patch_size_level0"]) == ("slide-1", 224, 112)


def trident_file(path, leading=False):
    rng = np.random.default_rng(0)
    features, coords = rng.random((6, 4)).astype(np.float32), rng.integers(0, 999, (6, 2))
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("features", data=features[None] if leading else features)
        stored.attrs.update({"name": "uni_v1", "savetodir": "somewhere"})
        places = file.create_dataset("coords", data=coords[None] if leading else coords)
        places.attrs.update(
            {"patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20, "overlap": 0}
        )
        places.attrs.update({"level0_width": 4000, "level0_height": 3000, "name": "x", "savetodir": "somewhere"})
    return features, coords


@pytest.mark.parametrize("leading", [False, True])
def test_a_trident_file_is_read_with_the_mpp_of_its_slide(tmp_path, leading):
    features, coords = trident_file(tmp_path / "t.h5", leading)
    bag = read_bag(tmp_path / "t.h5", mpp=0.25)
    assert np.array_equal(bag.features, features) and np.array_equal(bag.grid.xy, coords)
    assert (bag.grid.tile_px0, bag.grid.slide_size, bag.encoder) == (512.0, (4000, 3000), "uni_v1")
    with pytest.raises(SlideError) as caught:
        read_bag(tmp_path / "t.h5")
    assert caught.value.code == FindingCode.MPP_MISSING


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = tmp_path / "cut.h5"
    write_bag(path, bag_of(2000, 16))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(SlideError) as caught:
        read_bag(path)
    assert caught.value.code == FindingCode.BAG_UNREADABLE


def test_a_bag_that_does_not_belong_to_its_grid_is_not_written(tmp_path):
    bag = bag_of(5, 3)
    wrong = FeatureBag(bag.features[:4], bag.grid, "x")
    holes = FeatureBag(np.full((5, 3), np.nan, np.float32), bag.grid, "x")
    for bad in (wrong, holes):
        with pytest.raises(SlideError) as caught:
            write_bag(tmp_path / "bad.h5", bad)
        assert caught.value.code == FindingCode.BAG_INVALID
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.h5"
    write_bag(path, bag_of(5, 3))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_bag(path, bag_of(6, 3), {"name": object()})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("layout", ["ours", "chunked by row", "chunked", "leading axis", "compressed"])
def test_rows_are_read_in_the_order_asked_for(tmp_path, layout):
    path, bag = tmp_path / "a.h5", bag_of(500, 7)
    if layout == "ours":
        write_bag(path, bag)
    else:
        options = {"chunked by row": {"chunks": (1, 7)}, "chunked": {"chunks": (100, 7)}, "compressed": {"compression": "gzip"}}
        with h5py.File(path, "w") as file:
            file.create_dataset(
                "features", data=bag.features[None] if layout == "leading axis" else bag.features, **options.get(layout, {})
            )
            file.create_dataset("coords", data=bag.grid.xy)
    rows = np.random.default_rng(0).integers(0, 500, 200)
    assert np.array_equal(read_rows(path, rows), bag.features[rows])
    assert read_rows(path, []).shape == (0, 7)
    for beyond in ([500], [-1]):
        with pytest.raises(IndexError, match="rows 0 to 499"):
            read_rows(path, beyond)


def test_a_file_is_done_only_if_its_vectors_are_those_that_were_written(tmp_path):
    path, bag = tmp_path / "a.h5", bag_of(300, 8)
    write_bag(path, bag)
    facts = check_bag(path)
    assert (facts.n, facts.dim, facts.encoder, facts.skipped) == (300, 8, "resnet50", {}) and len(facts.sha256) == 64
    with h5py.File(path, "r+") as file:
        assert file["features"].chunks is None
        file["features"][17, 3] += 1
    check_bag(path, contents=False)
    with pytest.raises(SlideError) as caught:
        check_bag(path)
    assert caught.value.code == FindingCode.BAG_INVALID
    path.write_bytes(path.read_bytes()[:-100])
    for read in (check_bag, read_bag, lambda p: read_rows(p, [299])):
        with pytest.raises(SlideError) as caught:
            read(path)
        assert caught.value.code == FindingCode.BAG_UNREADABLE


def test_a_bag_that_is_not_full_is_not_kept(tmp_path):
    bag = bag_of(6, 3)
    for pieces in ([bag.features[:5]], [bag.features, bag.features[:1]], [bag.features[:, :2]]):
        with pytest.raises(SlideError) as caught, bag_writer(tmp_path / "a.h5", bag.grid, 3, "x") as writer:
            for piece in pieces:
                writer.append(piece)
        assert caught.value.code == FindingCode.BAG_INVALID
    assert list(tmp_path.iterdir()) == []
