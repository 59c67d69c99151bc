"""Features of TRIDENT and CLAM are found, read and checked; ours, exported, are read by what those tools do to read theirs."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from foreign_features import save_h5, tiles_on, write_clam, write_trident

from ml.slides.export_bags import export_clam, export_trident
from ml.slides.features import read_bag, write_bag
from ml.slides.findings import FindingCode, SlideError
from ml.slides.foreign_bags import check_fit, convert, find_bags, read_content
from ml.types import FeatureBag, TileGrid

SIZE, SIDE, MPP = (2048, 1536), 256, 0.5


def codes(found):
    return [finding.code for finding in found]


@pytest.mark.parametrize("start", ["job", "overlap", "features"])
def test_trident_folders_are_found_from_any_of_their_levels(tmp_path, start):
    path = write_trident(tmp_path / "job", "LU-1", SIZE, SIDE)
    write_trident(tmp_path / "job", "LU-2", SIZE, SIDE, seed=1)
    folder = {"job": tmp_path / "job", "overlap": path.parent.parent, "features": path.parent}[start]
    bags = find_bags(folder)
    assert [(b.name, b.layout, b.encoder) for b in bags] == [("LU-1", "trident", "uni_v1"), ("LU-2", "trident", "uni_v1")]
    content = read_content(bags[0])
    assert (content.n, content.dim, content.tile_px0, content.magnification) == (48, 24, 256.0, 20.0)
    assert content.slide_size == SIZE and content.finite
    assert check_fit(bags[0], content, MPP, SIZE, 24) == []


@pytest.mark.parametrize("kind", ["both", "pt alone"])
def test_clam_folders_are_found_and_their_tiles_are_measured_at_their_level(tmp_path, kind):
    write_clam(tmp_path, "LU-1", SIZE, SIDE, h5=kind == "both")
    (bag,) = find_bags(tmp_path)
    assert (bag.layout, bag.features.suffix) == ("clam", ".h5" if kind == "both" else ".pt")
    content = read_content(bag)
    assert (content.tile_px0, content.magnification, content.slide_size) == (256.0, None, None)
    assert check_fit(bag, content, MPP, SIZE) == []


def test_vectors_are_taken_over_unchanged(tmp_path):
    path = write_trident(tmp_path / "job", "LU-1", SIZE, SIDE)
    (bag,) = find_bags(tmp_path / "job")
    convert(bag, read_content(bag), tmp_path / "ours.h5", "slide 7", MPP, SIZE, {"imported": "uni_v1"})
    ours = read_bag(tmp_path / "ours.h5")
    with h5py.File(path) as theirs:
        assert np.array_equal(ours.features, theirs["features"]) and np.array_equal(ours.grid.xy, theirs["coords"])
    assert (ours.grid.tile_um, ours.grid.mpp, ours.grid.slide_size) == (128.0, MPP, SIZE)
    with h5py.File(tmp_path / "ours.h5") as file:
        assert file["coords"].attrs["name"] == "slide 7" and "savetodir" not in file["coords"].attrs


def test_a_set_has_to_be_chosen_where_there_are_several(tmp_path):
    write_trident(tmp_path, "LU-1", SIZE, SIDE, encoder="uni_v1")
    write_trident(tmp_path, "LU-1", SIZE, SIDE, encoder="conch_v1")
    with pytest.raises(SlideError) as caught:
        find_bags(tmp_path)
    assert "features_conch_v1" in caught.value.sentence and "features_uni_v1" in caught.value.sentence
    assert find_bags(tmp_path, "conch_v1")[0].encoder == "conch_v1"
    with pytest.raises(SlideError) as caught:
        find_bags(tmp_path / "10x_128px_0px_overlap" / "patches" / "none")
    assert caught.value.code == FindingCode.FILE_MISSING


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ({"level0_magnification": 40}, FindingCode.MPP_CONFLICT),
        ({"level0_width": 4096}, FindingCode.COORDS_OUTSIDE),
        ({"patch_size_level0": None}, FindingCode.TILE_SIZE_MISSING),
    ],
)
def test_what_does_not_fit_the_slide_is_told(tmp_path, what, code):
    write_trident(tmp_path, "LU-1", SIZE, SIDE, **what)
    (bag,) = find_bags(tmp_path)
    assert codes(check_fit(bag, read_content(bag), MPP, SIZE)) == [code]


def test_dimension_place_and_numbers_are_checked(tmp_path):
    write_trident(tmp_path, "LU-1", SIZE, SIDE)
    (bag,) = find_bags(tmp_path)
    content = read_content(bag)
    assert codes(check_fit(bag, content, MPP, SIZE, 1024)) == [FindingCode.FEATURES_WRONG_DIM]
    assert codes(check_fit(bag, content, MPP, (1000, 1000))) == [FindingCode.COORDS_OUTSIDE]
    with h5py.File(bag.features, "r+") as file:
        file["features"][5, 2] = np.nan
    assert codes(check_fit(bag, read_content(bag), MPP, SIZE)) == [FindingCode.FEATURES_NOT_FINITE]


def test_truncated_files_and_other_things_are_refused_with_a_finding(tmp_path):
    path = write_trident(tmp_path / "a", "LU-1", SIZE, SIDE)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(SlideError) as caught:
        read_content(find_bags(tmp_path / "a")[0])
    assert caught.value.code == FindingCode.BAG_UNREADABLE

    pt = write_clam(tmp_path / "b", "LU-1", SIZE, SIDE, h5=False)
    pt.write_bytes(b"not a tensor")
    with pytest.raises(SlideError) as caught:
        read_content(find_bags(tmp_path / "b")[0])
    assert caught.value.code == FindingCode.BAG_UNREADABLE

    write_clam(tmp_path / "c", "LU-1", SIZE, SIDE, h5=False)
    (tmp_path / "c" / "patches" / "LU-1.h5").unlink()
    with pytest.raises(SlideError) as caught:
        read_content(find_bags(tmp_path / "c")[0])
    assert caught.value.code == FindingCode.COORDS_MISSING

    folder = tmp_path / "d" / "features_x"
    save_h5(folder / "slide.h5", {"features": np.zeros(24, np.float32), "coords": np.zeros((1, 2), np.int64)})
    with pytest.raises(SlideError) as caught:
        read_content(find_bags(folder)[0])
    assert caught.value.code == FindingCode.BAG_INVALID

    save_h5(folder / "slide.h5", {"features": np.zeros((3, 4), np.float32), "coords": np.zeros((2, 2), np.int64)})
    with pytest.raises(SlideError) as caught:
        read_content(find_bags(folder)[0])
    assert caught.value.code == FindingCode.BAG_INVALID and "3 vectors" in caught.value.sentence


@pytest.fixture
def ours(tmp_path):
    xy = tiles_on(SIZE, SIDE)
    features = np.random.default_rng(3).standard_normal((len(xy), 24)).astype(np.float32)
    bag = FeatureBag(features, TileGrid(xy, float(SIDE), MPP, SIZE), "he-descriptors")
    write_bag(tmp_path / "ours.h5", bag, {"patch_size": 128, "target_magnification": 10.0})
    return bag


def test_an_exported_trident_folder_comes_back(ours, tmp_path):
    files = export_trident(tmp_path / "ours.h5", tmp_path / "out", "LU-1")
    places = ["10x_128px_0px_overlap/features_he-descriptors/LU-1.h5", "10x_128px_0px_overlap/patches/LU-1_patches.h5"]
    assert [str(f.relative_to(tmp_path / "out")) for f in files] == places
    (bag,) = find_bags(tmp_path / "out")
    content = read_content(bag)
    assert check_fit(bag, content, MPP, SIZE, 24) == [] and content.tile_px0 == SIDE
    with h5py.File(files[0]) as file:
        assert np.array_equal(file["features"][:], ours.features) and np.array_equal(file["coords"][:], ours.grid.xy)
        assert file["features"].attrs["name"] == "he-descriptors"
    with h5py.File(files[1]) as file:
        attrs = dict(file["coords"].attrs)
    assert (attrs["patch_size"], attrs["patch_size_level0"], attrs["target_magnification"], attrs["name"]) == (128, 256, 10.0, "LU-1")


def test_an_exported_clam_folder_comes_back(ours, tmp_path):
    import torch

    h5, pt, patches = export_clam(tmp_path / "ours.h5", tmp_path / "out", "LU-1")
    assert torch.equal(torch.load(pt, weights_only=True), torch.from_numpy(ours.features))
    with h5py.File(patches) as file:
        attrs = dict(file["coords"].attrs)
    assert (attrs["patch_size"], attrs["patch_level"], attrs["name"]) == (256, 0, "LU-1")
    for found in (find_bags(tmp_path / "out")[0], replace(find_bags(tmp_path / "out")[0], features=pt)):
        content = read_content(found)
        assert check_fit(found, content, MPP, SIZE, 24) == [] and np.array_equal(content.xy, ours.grid.xy)
    assert h5.parent.name == "h5_files"
