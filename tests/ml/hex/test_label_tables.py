"""Label tables: the released layout there and back, what is refused and where, and means over tiles of registered images."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiplex_pictures import PANEL, draw, write_ome
from PIL import Image

from ml.hex import label_child
from ml.hex import tile_means as means
from ml.hex.errors import HexDataError
from ml.hex.label_tables import LabelTable, check_scaling, read_label_table, write_label_table
from ml.hex.panel import HEX_PANEL
from ml.hex.released import HexSplit, check_splits, read_released_folder, read_split, write_split
from ml.hex.tile_means import labels_from_image, read_coords, tile_means
from ml.multiplex.convert import convert_multiplex

ROOT = Path(__file__).resolve().parents[3]
TWO = "slide,index,x,y,mean_intensity_channel1,mean_intensity_channel2\n"
NAMED = "slide,index,x,y,CD8,CD68\n"


def table_of(n=12, markers=("CD8", "CD68"), slide="LU_01_a", seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    values = (rng.random((n, len(markers))) * 1e-3).astype(dtype)
    return LabelTable(np.array([slide] * n), np.arange(n), rng.integers(0, 9000, (n, 2)), values, tuple(markers))


def refused(call, *args, **kwargs):
    with pytest.raises(HexDataError) as caught:
        call(*args, **kwargs)
    error = caught.value
    assert error.sentence.endswith(".") and error.hint.endswith(".")
    return error


def written(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# --- there and back


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_written_table_comes_back_as_it_was_and_is_written_again_byte_for_byte(tmp_path, dtype):
    table = table_of(n=5000, markers=[f"m{i}" for i in range(3)], dtype=dtype)  # more rows than are written at a time
    write_label_table(tmp_path / "a.csv", table)
    back = read_label_table(tmp_path / "a.csv", table.markers, dtype)
    assert back.values.dtype == dtype and np.array_equal(back.values, table.values) and np.array_equal(back.xy, table.xy)
    assert back.slides == ["LU_01_a"] and back.markers == table.markers and np.array_equal(back.index, table.index)
    write_label_table(tmp_path / "b.csv", back)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_forty_numbered_channels_are_the_panel_of_hex(tmp_path):
    write_label_table(tmp_path / "a.csv", table_of(markers=HEX_PANEL))
    assert read_label_table(tmp_path / "a.csv").markers == HEX_PANEL


def test_ids_stay_text_and_a_header_may_hold_real_names(tmp_path):
    table = read_label_table(written(tmp_path, NAMED + "007_1,0,12.0,34,0.5,1\nNA,1,5,6,2,3\n"))
    assert table.slides == ["007_1", "NA"] and table.markers == ("CD8", "CD68") and table.xy.tolist() == [[12, 34], [5, 6]]
    assert table.of_slide("NA").values.tolist() == [[2, 3]] and len(table.of_slide("NA")) == 1


@pytest.mark.parametrize(("largest", "hint"), [(1.0, "0..1"), (1.5, "0..255"), (255.0, "0..255"), (3000.0, "raw counts")])
def test_the_scale_is_guessed_from_the_largest_value(largest, hint):
    table = table_of()
    table.values[3, 1] = largest
    assert table.scale_hint == hint


# --- refusals


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("", "table_columns", "begins with nothing"),
        ("<html><body>", "table_columns", "slide, index, x, y"),
        ("slide;index;x;y;CD8\ns;0;1;2;3\n", "table_columns", "comma separated"),
        (b"\xff\xfe\x00", "table_unreadable", "UTF-8"),
        (NAMED.encode() + b"a,0,1,2,\xff,2\n", "table_unreadable", "UTF-8"),
        (NAMED + '"a,0,1,2,3,2\n', "table_unreadable", "EOF inside string"),
        (NAMED, "no_tiles", "has no rows"),
        (TWO + "a,0,1,2,3,4\n", "markers_missing", "there are 2"),
        ("slide,index,x,y,CD8,CD8\na,0,1,2,3,4\n", "markers_invalid", "CD8 is named twice"),
        ("slide,index,x,y,CD8,Y\na,0,1,2,3,4\n", "markers_invalid", "cannot be called Y"),
        (TWO.replace("channel2", "channel3") + "a,0,1,2,3,4\n", "table_columns", "not numbered 1 to 2"),
        (NAMED + "a,0,1,2,3,4\nb,0,1,2,3,4,5\n", "table_cell", "Row 3 has more cells"),
        (NAMED + "a,0,1,2,3,4\nb,0,1.5,2,3,4\n", "table_cell", "value of x in row 3"),
        (NAMED + "a,0,1,99999999999,3,4\n", "table_cell", "value of y in row 2"),
        (NAMED + "a,0,1,2,3,4\n,0,1,2,3,4\n", "table_cell", "value of slide in row 3"),
        (NAMED + "a,0,1,2,3,'4\n", "table_cell", "value of CD68 in row 2 is no number"),
        (NAMED + "a,0,1,2,3,True\n", "table_cell", "is no number: 'True'"),
        (NAMED + "a,0,1,2,3,4\na,1,1,2,,4\n", "labels_not_finite", "value of CD8 in row 3"),
        (NAMED + "a,0,1,2,3\n", "labels_not_finite", "value of CD68 in row 2"),
        (NAMED + "a,0,1,2,3,1e39\n", "labels_not_finite", "value of CD68 in row 2"),
        (NAMED + "a,0,1,2,3,4\na,0,1,2,-3,4\na,0,1,2,-1,4\n", "labels_range", "value of CD8 in row 3 is negative: -3 (2 such values)"),
    ],
)
def test_what_is_wrong_is_told_with_row_and_column(tmp_path, text, code, told):
    error = refused(read_label_table, written(tmp_path, text))
    assert error.code == code and told in f"{error.sentence} {error.hint}" and error.where.startswith("t.csv")


def test_names_have_to_be_as_many_as_channels(tmp_path):
    path = written(tmp_path, TWO + "a,0,1,2,3,4\n")
    assert refused(read_label_table, path, ["a"]).code == "markers_count"
    assert read_label_table(path, ["a", " b "]).markers == ("a", "b")
    assert refused(read_label_table, tmp_path / "none.csv").code == "table_unreadable"


@pytest.mark.parametrize(
    ("scaling", "fits", "beyond"), [("none", 1.0, 1.01), ("divide_by_256", 256.0, 256.5), ("p99_global", 60000.0, None)]
)
def test_labels_outside_what_the_stated_scaling_allows(scaling, fits, beyond):
    table = table_of()
    table.values[4, 1] = fits
    check_scaling(table, scaling)
    if beyond is not None:
        table.values[4, 1] = beyond
        error = refused(check_scaling, table, scaling, "t.csv")
        assert error.code == "labels_range" and error.where == "t.csv, row 6, column CD68" and scaling in error.sentence


# --- coordinates and images


def coords_file(path, xy, **attrs):
    with h5py.File(path, "w") as file:
        file["coords"] = np.asarray(xy, np.int64)
        file["coords"].attrs.update(attrs)
    return path


def test_coordinates_of_clam_and_trident(tmp_path):
    xy = [[0, 0], [224, 0]]
    clam = read_coords(coords_file(tmp_path / "a.h5", xy, patch_level=1, patch_size=224, downsample=[4.0, 4.0]))
    assert clam.xy.tolist() == xy and clam.tile_px0 == 896
    assert read_coords(coords_file(tmp_path / "b.h5", xy, patch_level=0, patch_size=224)).tile_px0 == 224
    assert read_coords(coords_file(tmp_path / "c.h5", xy, patch_size=256, patch_size_level0=512)).tile_px0 == 512
    assert read_coords(coords_file(tmp_path / "d.h5", xy)).tile_px0 is None
    assert refused(read_coords, coords_file(tmp_path / "e.h5", np.empty((0, 2)))).code == "no_tiles"
    (tmp_path / "f.h5").write_bytes(b"no hdf5")
    assert refused(read_coords, tmp_path / "f.h5").code == "bag_unreadable"
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file["features"] = np.zeros((2, 3))
    assert refused(read_coords, tmp_path / "g.h5").code == "coords_missing"


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from(["uint8", "uint16", "int16", "float32"]))
def test_tile_means_are_the_plain_means_of_the_squares(seed, side, dtype):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 90, 2)
    image = rng.integers(-300 if dtype[0] in "if" else 0, 256 if dtype == "uint8" else 30000, (height, width)).astype(dtype)
    if dtype == "float32" and height * width > 9:
        image[rng.integers(height), rng.integers(width)] = rng.choice([np.nan, np.inf])
    xy = np.stack([rng.integers(0, width, 30), rng.integers(0, height, 30)], axis=1)
    before, means.BAND_ROWS = means.BAND_ROWS, 16
    try:
        found = tile_means(lambda start, stop: image[start:stop], image.shape, xy, side)
    finally:
        means.BAND_ROWS = before
    squares = [image[y : y + side, x : x + side].astype(float) for x, y in xy]
    expected = np.array([s.mean() if np.isfinite(s).all() else np.nan for s in squares])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9, equal_nan=True)


@pytest.fixture(scope="module")
def codex(tmp_path_factory):
    """A registered image of 3 channels as OME-TIFF (tiles of 128 px) and as the pyramid of an import, and the picture itself."""
    folder, picture = tmp_path_factory.mktemp("codex"), draw(height=1300, width=1200)
    tiff = write_ome(folder / "a.ome.tif", picture, tile=(128, 128), compression="zlib")
    convert_multiplex(tiff, folder / "a.zarr")
    return tiff, folder / "a.zarr", picture


@pytest.mark.parametrize("which", [0, 1])
def test_labels_of_a_registered_image_as_the_released_script_makes_them(codex, which):
    picture, told = codex[2], []
    xy = np.array([[x, y] for y in range(10, 1000, 224) for x in range(0, 1200, 224)])
    table = labels_from_image(codex[which], xy, 224, slide="LU_1", tick=told.append)
    expected = [[c[y : y + 224, x : x + 224].mean() for c in picture] for x, y in xy]
    assert np.array_equal(table.values, np.array(expected, np.float32)) and table.markers == PANEL and table.slides == ["LU_1"]
    assert told == pytest.approx([1 / 3, 2 / 3, 1]) and table.index.tolist() == list(range(len(xy)))
    moved = labels_from_image(codex[which], xy + (700, 50), 224, origin=(700, 50), markers=("a", "b", "c"))
    assert np.array_equal(moved.values, table.values) and np.array_equal(moved.xy, xy + (700, 50)) and moved.markers == ("a", "b", "c")


def test_an_image_that_does_not_fit_is_refused(codex, tmp_path):
    tiff = codex[0]
    error = refused(labels_from_image, tiff, np.array([[0, 0], [1200, 4], [5, -1]]), 56)
    assert error.code == "coords_outside" and "2 of 3 tiles" in error.sentence and "(1200, 4)" in error.sentence
    assert refused(labels_from_image, tiff, np.zeros((1, 2)), 56, markers=("a",)).code == "markers_count"
    unnamed = write_ome(tmp_path / "u.ome.tif", draw(height=64, width=64), names=None)
    assert refused(labels_from_image, unnamed, np.zeros((1, 2)), 56).code == "markers_missing"
    below = write_ome(tmp_path / "n.ome.tif", -draw(height=64, width=64).astype("int16"))
    assert refused(labels_from_image, below, np.zeros((1, 2)), 56).code == "labels_range"
    (tmp_path / "x.tif").write_bytes(b"x")
    assert refused(labels_from_image, tmp_path / "x.tif", np.zeros((1, 2)), 56).code == "unsupported_format"


# --- splits and the released folder

FOLDS = [
    HexSplit((("p1", "s1"), ("p1", "s2"), ("p2", "s3")), (("p3", "s4"),)),
    HexSplit((("p2", "s3"), ("p3", "s4")), (("p1", "s1"), ("p1", "s2"))),
    HexSplit((("p1", "s1"), ("p1", "s2"), ("p3", "s4")), (("p2", "s3"),)),
]


def test_a_split_is_written_and_read_and_ids_that_were_floats_are_whole(tmp_path):
    for split in FOLDS:
        write_split(tmp_path / "s.csv", split)
        assert read_split(tmp_path / "s.csv") == split
    path = written(tmp_path, ",patient_train,train,patient_val,val\n0,10,10,7.0,07_1\n1,11,11,,\n2,12,12,,\n")
    assert read_split(path) == HexSplit((("10", "10"), ("11", "11"), ("12", "12")), (("7", "07_1"),))
    assert read_split(written(tmp_path, "train,val\n1.0,4\n2.0,\n3.0,\n")).train == (("1", "1"), ("2", "2"), ("3", "3"))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "split_columns"),
        ("a,b\n1,2\n", "split_columns"),
        ("train,val\n1,2\n1,\n", "split_twice"),
        ("train,val\n1,1\n", "split_twice"),
        ("patient_train,train,patient_val,val\n1,2,,3\n4,,5,6\n", "split_uneven"),
    ],
)
def test_a_split_file_that_cannot_be_meant(tmp_path, text, code):
    assert refused(read_split, written(tmp_path, text)).code == code


def test_the_rules_of_a_cross_validation():
    check_splits(FOLDS)
    check_splits(FOLDS[:1])
    mixed = HexSplit((("p1", "s1"),), (("p1", "s2"), ("p2", "s3")))
    assert "Patient p1 is on both sides of fold 0" in refused(check_splits, [mixed]).sentence
    assert refused(check_splits, [HexSplit((), (("p1", "s1"),))]).code == "split_empty"
    assert refused(check_splits, FOLDS[:2]).code == "slide_never_validated"
    assert refused(check_splits, [*FOLDS, FOLDS[0]]).code == "patient_in_two_folds"
    assert refused(check_splits, FOLDS, ["s1", "s2", "s3"]).code == "slide_unknown"
    assert refused(check_splits, FOLDS, ["s1", "s2", "s3", "s4", "s5"]).code == "slide_never_validated"
    short = [HexSplit(FOLDS[0].train[:2], FOLDS[0].val), *FOLDS[1:]]
    assert "s3 is neither trained on nor validated in fold 0" in refused(check_splits, short).sentence


def released(root, slides=("a_1", "b"), n=3, px=16):
    for k, slide in enumerate(slides):
        (root / "channel_registered").mkdir(parents=True, exist_ok=True)
        write_label_table(root / "channel_registered" / f"{slide}.csv", table_of(n, HEX_PANEL, slide, seed=k))
        folder = root / "he_patches" / slide
        folder.mkdir(parents=True)
        for i in range(n):
            Image.fromarray(np.full((px, px, 3), 10 * k + i, np.uint8)).save(folder / f"{slide}_{i}.png")
    return root


def test_a_released_folder_gives_tiles_with_their_patients(tmp_path):
    root = released(tmp_path / "r")
    split = HexSplit((("p1", "a_1"),), (("p2", "b"),))
    write_split(tmp_path / "splits_0.csv", split)
    for given_ in (split, tmp_path / "splits_0.csv"):
        images, labels, patients, slides, markers = read_released_folder(root, given_)
        assert images.shape == (6, 16, 16, 3) and images[:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11, 12]
        assert patients.tolist() == ["p1"] * 3 + ["p2"] * 3 and slides.tolist() == ["a_1"] * 3 + ["b"] * 3
        assert labels.dtype == np.float32 and markers == HEX_PANEL
        assert np.array_equal(labels[3:], table_of(3, HEX_PANEL, "b", seed=1).values)
    assert read_released_folder(root).patients.tolist() == slides.tolist()


def test_a_released_folder_that_is_not_whole(tmp_path):
    root = released(tmp_path / "r")
    assert refused(read_released_folder, tmp_path).code == "folder_empty"
    assert refused(read_released_folder, root, HexSplit((("p1", "a_1"),), ())).code == "slide_without_patient"
    Image.fromarray(np.zeros((16, 15, 3), np.uint8)).save(root / "he_patches/b/b_2.png")
    assert refused(read_released_folder, root).code == "pictures_differ"
    (root / "he_patches/b/b_2.png").write_bytes(b"no picture")
    assert refused(read_released_folder, root).code == "picture_unreadable"
    (root / "he_patches/b/b_2.png").unlink()
    error = refused(read_released_folder, root)
    assert error.code == "picture_missing" and error.where == "he_patches/b/b_2.png"
    (root / "channel_registered/b.csv").rename(root / "channel_registered/c.csv")
    assert refused(read_released_folder, root).code == "slide_mismatch"


def test_reading_labels_needs_no_torch():
    program = "import sys, ml.hex.label_tables, ml.hex.tile_means, ml.hex.released; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_large_table_is_read_in_a_child_and_says_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(label_child, "SMALL", 0)
    table = table_of(n=40)
    write_label_table(tmp_path / "held.csv", table)
    back = label_child.read_label_table_isolated(tmp_path / "held.csv", table.markers)
    assert np.array_equal(back.values, table.values) and np.array_equal(back.xy, table.xy) and back.slides == table.slides
    assert back.markers == table.markers and back.values.dtype == np.float32
    error = refused(label_child.read_label_table_isolated, written(tmp_path, NAMED + "a,0,1,2,3,-4\n"), None, "sent.csv")
    assert error.code == "labels_range" and error.where == "sent.csv, row 2, column CD68"
    monkeypatch.setattr(label_child, "MEMORY_MB", 100)
    assert refused(label_child.read_label_table_isolated, tmp_path / "held.csv", table.markers, "sent.csv").code.startswith("parser_")
