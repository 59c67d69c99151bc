"""Virtual maps on disk: the same array comes back, OME readers find names and pitch, a lost chunk is noticed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ml.slides.map_files import MapFileError, read_map, write_map
from ml.types import VirtualMap


@pytest.fixture
def virtual():
    values = np.random.default_rng(0).random((3, 7, 5), dtype=np.float32)
    values[:, :2] = np.nan
    return VirtualMap(values, ("CD8", "CD20", "Pan-Cytokeratin"), 56.0, (100.0, 40.0), 112.0, out_of_range=np.zeros((7, 5), np.float32))


def test_what_is_written_comes_back(tmp_path, virtual):
    write_map(tmp_path / "a.ome.zarr", virtual, mpp=0.5)
    back = read_map(tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(back.values, virtual.values)
    np.testing.assert_array_equal(back.out_of_range, virtual.out_of_range)
    assert (back.names, back.pitch_um, back.origin_px0, back.step_px0) == (virtual.names, 56.0, (100.0, 40.0), 112.0)
    assert back.effective_resolution_um is None and back.spread is None


def test_ome_metadata_names_channels_scale_and_place(tmp_path, virtual):
    write_map(tmp_path / "a.ome.zarr", virtual, mpp=0.5)
    ome = json.loads((tmp_path / "a.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"]
    scale, translation = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert ome["version"] == "0.5" and [c["label"] for c in ome["omero"]["channels"]] == list(virtual.names)
    assert scale["scale"] == [1.0, 56.0, 56.0]
    assert translation["translation"] == [0.0, (40 + 56) * 0.5, (100 + 56) * 0.5]


def test_a_lost_chunk_is_refused_and_not_read_as_zeros(tmp_path, virtual):
    write_map(tmp_path / "a.ome.zarr", virtual, mpp=0.5)
    next(p for p in (tmp_path / "a.ome.zarr" / "out_of_range" / "c").rglob("*") if p.is_file()).unlink()
    with pytest.raises(MapFileError, match="lost 1 of its chunks"):
        read_map(tmp_path / "a.ome.zarr")


def test_one_channel_alone_is_read_with_its_layers_and_half_widths_are_kept(tmp_path, virtual):
    virtual = replace(virtual, spread=np.where(virtual.values > 0.9, np.nan, 0.2).astype(np.float32))
    write_map(tmp_path / "a.ome.zarr", virtual, mpp=0.5)
    np.testing.assert_array_equal(read_map(tmp_path / "a.ome.zarr").spread, virtual.spread)
    one = read_map(tmp_path / "a.ome.zarr", channel=1)
    assert one.names == ("CD20",)
    np.testing.assert_array_equal(one.values, virtual.values[1:2])
    np.testing.assert_array_equal(one.spread, virtual.spread[1:2])
    np.testing.assert_array_equal(one.out_of_range, virtual.out_of_range)
    with pytest.raises(IndexError):
        read_map(tmp_path / "a.ome.zarr", channel=3)


def test_a_folder_of_something_else_is_refused(tmp_path):
    import zarr

    zarr.open_group(str(tmp_path / "other.zarr"), mode="w")
    with pytest.raises(MapFileError, match="not a map of tissueboard"):
        read_map(tmp_path / "other.zarr")
    with pytest.raises(MapFileError, match="There is no map"):
        read_map(tmp_path / "nothing.zarr")
