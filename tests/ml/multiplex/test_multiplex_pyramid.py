"""The pyramid: level 0 is the image, every level the mean of the one before; whole or not at all, in bounded memory."""

import io
import json
import tracemalloc

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from multiplex_pictures import NAME, PANEL, draw, write_markers, write_ome, write_qptiff
from PIL import Image

from ml.multiplex import zarr_pyramid
from ml.multiplex.convert import convert_multiplex
from ml.multiplex.isolated import convert_multiplex_isolated
from ml.multiplex.signal import Signal
from ml.multiplex.zarr_pyramid import OpenImage, Shown, halve, level_shapes, render_tile, write_pyramid
from ml.slides.findings import FindingCode as Code
from ml.slides.findings import SlideError


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """(folder of the pyramid, the picture, facts): 3 channels of 1300 x 1100 px, so that the first level has shards."""
    folder = tmp_path_factory.mktemp("multiplex")
    picture = draw(3, 1300, 1100)
    facts = convert_multiplex(write_ome(folder / f"{NAME}.ome.tif", picture, compression="zlib", tile=(256, 256)), folder / "a.zarr")
    return folder / "a.zarr", picture, facts


def mean_of(values):
    """The rule in the open: mean of the pixels there are; integers rounded half up."""
    mean = float(np.mean(values, dtype=np.float64))
    return np.floor(mean + 0.5) if values.dtype.kind in "ui" else mean


@settings(max_examples=40)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"]),
    st.integers(0, 2**31),
)
def test_half_a_picture_is_the_mean_of_its_pixels(height, width, dtype, seed):
    rng, number = np.random.default_rng(seed), np.dtype(dtype)
    if number.kind == "f":
        rows = rng.normal(0, 100, (height, width)).astype(dtype)
    else:
        rows = rng.integers(np.iinfo(number).min, np.iinfo(number).max, (height, width), endpoint=True, dtype=dtype)
    half = halve(rows)
    assert half.dtype == number and half.shape == (-(-height // 2), -(-width // 2))
    for y in range(half.shape[0]):
        for x in range(half.shape[1]):
            assert half[y, x] == pytest.approx(mean_of(rows[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]), rel=1e-6, abs=1e-4)


def test_values_that_are_no_numbers_are_left_out_of_a_mean():
    half = halve(np.array([[1.0, np.nan], [3.0, np.inf], [np.nan, np.nan]], np.float32))
    assert half[0, 0] == 2.0 and np.isnan(half[1, 0])


def test_every_level_is_the_mean_of_the_one_before(image):
    folder, picture, _ = image
    group = zarr.open_group(str(folder), mode="r")
    expected = picture
    for i, (height, width) in enumerate(level_shapes(*picture.shape[1:])):
        level = np.asarray(group[str(i)][:])
        assert level.dtype == picture.dtype and level.shape == (3, height, width)
        assert np.array_equal(level, expected)
        expected = np.stack([halve(plane) for plane in expected])
    assert max(height, width) <= 256


def test_the_folder_is_ome_zarr_with_the_size_of_a_pixel(image):
    folder, _, facts = image
    attributes = json.loads((folder / "zarr.json").read_text())["attributes"]
    scales = attributes["ome"]["multiscales"][0]["datasets"]
    assert attributes["ome"]["version"] == "0.5"
    assert [d["coordinateTransformations"][0]["scale"] for d in scales] == [[1.0, 0.5 * 2**i, 0.5 * 2**i] for i in range(len(scales))]
    assert [c["label"] for c in attributes["ome"]["omero"]["channels"]] == list(PANEL)
    window = attributes["ome"]["omero"]["channels"][0]["window"]
    assert (window["start"], window["end"]) == (facts["signal"][0]["low"], facts["signal"][0]["high"])
    assert zarr.open_group(str(folder), mode="r")["0"].chunks == (1, 256, 256)


def test_nothing_of_the_header_is_in_the_pyramid(tmp_path):
    for path in (write_ome(tmp_path / "a.ome.tif", draw()), write_qptiff(tmp_path / "b.qptiff", draw(dtype="uint8"))):
        assert NAME.encode() in path.read_bytes()
        convert_multiplex(path, tmp_path / f"{path.stem}.zarr")
        for file in (tmp_path / f"{path.stem}.zarr").rglob("*"):
            assert not file.is_file() or (NAME.encode() not in file.read_bytes() and b"JANE" not in file.read_bytes())


def test_display_limits_are_the_stated_percentiles(image):
    _, picture, facts = image
    for plane, found in zip(picture, facts["signal"]):
        assert (found["low"], found["high"]) == tuple(np.percentile(plane, [1, 99.8], method="inverted_cdf"))
        assert (found["min"], found["max"], found["mean"]) == (plane.min(), plane.max(), pytest.approx(plane.mean()))
        assert found["limits_by"] == "percentiles 1 and 99.8 of the pixels"


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from(["float32", "float64", "int32"]), st.floats(0, 100))
def test_percentiles_of_wide_types_are_right_to_a_relative_two_thousandth(seed, dtype, percent):
    values = (np.random.default_rng(seed).normal(0, 1, 500) * 10.0 ** np.random.default_rng(seed).integers(-3, 6)).astype(dtype)
    signal = Signal(dtype)
    for part in np.array_split(values, 7):
        signal.add(part)
    exact = float(np.percentile(values, percent, method="inverted_cdf"))
    assert signal.percentile(percent) == pytest.approx(exact, rel=2**-11, abs=1e-30)


def test_a_rare_marker_is_drawn_up_to_its_maximum():
    signal = Signal("float32")
    rare = np.zeros((100, 100), np.float32)
    rare[3, 4] = 8.0
    signal.add(rare)
    assert (signal.facts()["low"], signal.facts()["high"]) == (0.0, 8.0) and "minimum and maximum" in signal.facts()["limits_by"]


def test_the_memory_does_not_grow_with_the_height(tmp_path, monkeypatch):
    monkeypatch.setattr(zarr_pyramid, "SHARD", 256)
    peaks = {}
    for height in (512, 4096):
        path = write_ome(tmp_path / f"{height}.ome.tif", np.tile(draw(1, 64, 512), (2, height // 64, 1)), names=("a", "b"), tile=(128, 128))
        tracemalloc.start()
        convert_multiplex(path, tmp_path / f"{height}.zarr")
        peaks[height] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    whole = 2 * 4096 * 512 * 2
    # The histograms of a channel are most of it; the rows of an image eight times as tall add little.
    assert peaks[4096] - peaks[512] < whole / 8, peaks


def test_a_conversion_that_fails_leaves_nothing(tmp_path):
    path = write_ome(tmp_path / "a.ome.tif", draw(), names=None)
    with pytest.raises(SlideError) as refused:
        convert_multiplex(path, tmp_path / "a.zarr")
    assert refused.value.code == Code.CHANNEL_NAMES_MISSING and not (tmp_path / "a.zarr").exists()
    whole = write_ome(tmp_path / "b.ome.tif", draw(), compression="zlib", rowsperstrip=16)
    whole.write_bytes(whole.read_bytes()[:-3000])
    with pytest.raises(SlideError):
        convert_multiplex(whole, tmp_path / "b.zarr")
    assert not (tmp_path / "b.zarr").exists()


def test_a_pyramid_that_gets_too_few_rows_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="has 10 rows, not 20"):
        write_pyramid(tmp_path / "a.zarr", (1, 20, 30), "uint8", lambda _: iter([np.zeros((10, 30), np.uint8)]), ["a"], 1.0)


def test_the_child_converts_and_says_what_went_wrong(tmp_path):
    folder = write_markers(tmp_path / "m", draw())
    facts = convert_multiplex_isolated(folder, tmp_path / "a.zarr", mpp=0.39)
    assert facts["channels"] == ["CD3", "DAPI", "PanCK"] and facts["format"] == "TIFF per marker"
    with pytest.raises(SlideError) as refused:
        convert_multiplex_isolated(folder, tmp_path / "b.zarr", channels=["one"], mpp=0.39)
    assert refused.value.code == Code.CHANNEL_COUNT_DIFFERS and not (tmp_path / "b.zarr").exists()


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def test_a_tile_adds_the_channels_in_their_colours(image):
    folder, picture, _ = image
    shown = [Shown(0, "0000ff", 0, 100), Shown(2, "ff0000", 10, 210)]
    tile = decoded(render_tile(folder, 0, 1, 2, shown))
    cut = picture[:, 512:768, 256:512].astype(float)
    expected = np.zeros((256, 256, 3))
    expected[..., 2] = np.clip(cut[0] / 100, 0, 1) * 255
    expected[..., 0] = np.clip((cut[2] - 10) / 200, 0, 1) * 255
    assert np.abs(tile - expected).mean() < 3
    assert decoded(render_tile(folder, 0, 1, 2, [])).max() == 0
    white = [Shown(0, "ffffff", -2, -1)] * 2
    assert decoded(render_tile(folder, 0, 1, 2, white)).min() == 255


def test_tiles_end_with_the_image_and_are_not_there_beyond_it(image):
    folder, picture, _ = image
    last = len(level_shapes(*picture.shape[1:])) - 1
    assert decoded(render_tile(folder, 0, 4, 5, [])).shape == (1300 - 5 * 256, 1100 - 4 * 256, 3)
    assert decoded(render_tile(folder, last, 0, 0, [])).shape == (*level_shapes(1300, 1100)[last], 3)
    for place in ((last + 1, 0, 0), (-1, 0, 0), (0, 5, 0), (0, 0, 6), (0, -1, 0)):
        with pytest.raises(SlideError) as refused:
            render_tile(folder, *place, [])
        assert refused.value.code == Code.TILE_NOT_THERE
    with pytest.raises(SlideError) as refused:
        render_tile(folder, 0, 0, 0, [Shown(3, "ffffff", 0, 1)])
    assert refused.value.code == Code.CHANNEL_NOT_THERE


def test_a_lost_part_is_an_error_and_not_darkness(tmp_path):
    convert_multiplex(write_ome(tmp_path / "a.ome.tif", draw()), tmp_path / "a.zarr")
    opened = OpenImage(tmp_path / "a.zarr")
    assert opened.read(1, 0, 0, 0, 10, 10).shape == (10, 10)
    (tmp_path / "a.zarr" / "0" / "c" / "1" / "0" / "1").unlink()
    assert opened.read(1, 0, 0, 0, 10, 10).shape == (10, 10)
    with pytest.raises(SlideError) as refused:
        opened.read(1, 0, 0, 250, 10, 10)
    assert refused.value.code == Code.MULTIPLEX_UNREADABLE
    (tmp_path / "a.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(SlideError):
        OpenImage(tmp_path / "a.zarr")
    with pytest.raises(SlideError) as gone:
        render_tile(tmp_path / "none.zarr", 0, 0, 0, [])
    assert gone.value.code == Code.FILE_MISSING


def test_a_lost_chunk_inside_a_shard_is_an_error(image, tmp_path):
    import shutil

    folder = tmp_path / "a.zarr"
    shutil.copytree(image[0], folder)
    shard = folder / "0" / "c" / "0" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(SlideError) as refused:
        OpenImage(folder).read(0, 0, 0, 0, 300, 300)
    assert refused.value.code == Code.MULTIPLEX_UNREADABLE
