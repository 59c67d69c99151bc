"""Tiles of many slides come as one stream: in order, in bounded memory, whatever one tile or one slide is like."""

import os
import threading

import numpy as np
import pytest
import tifffile
from jpeg_slides import tissue_like, write_jpeg_slide

from ml.slides import loader
from ml.slides.findings import FindingCode, SlideError
from ml.slides.loader import TileSource, tile_batches
from ml.slides.reader import Slide, open_slide
from ml.types import TileGrid

MPP = 0.5


def grid_of(size, side=112.0, step=None):
    step = step or int(side)
    xy = np.array([(x, y) for y in range(0, size[1] - int(side) + 1, step) for x in range(0, size[0] - int(side) + 1, step)], np.int64)
    return TileGrid(xy, side, MPP, size)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    sizes = [(900, 700), (520, 430), (260, 1200)]
    paths = [write_jpeg_slide(folder / f"{i}.tif", tissue_like(*size, seed=i)) for i, size in enumerate(sizes)]
    return [TileSource(path, grid_of(size)) for path, size in zip(paths, sizes)]


def decoding_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("tiles")]


@pytest.mark.parametrize(("batch", "threads", "ahead"), [(7, 1, 1), (7, 4, 1), (16, 3, 5), (500, 2, 3)])
def test_order_and_pixels_do_not_depend_on_threads(slides, batch, threads, ahead):
    got = list(tile_batches(slides, 56, batch, threads=threads, ahead=ahead, engine="pillow"))
    assert [b.source for b in got] == sorted(b.source for b in got)
    for number, source in enumerate(slides):
        own = [b for b in got if b.source == number]
        assert np.concatenate([b.rows for b in own]).tolist() == list(range(len(source.grid)))
        assert all(len(b.rows) == batch for b in own[:-1]) and all(b.readable.all() and b.reading == "direct JPEG" for b in own)
        with open_slide(source.path) as slide:
            assert np.array_equal(np.concatenate([b.tiles for b in own]), slide.tile_array(source.grid, 56))
    assert not decoding_threads()


def test_only_the_rows_asked_for_in_their_order(slides):
    rows = np.array([9, 3, 3, 20])
    (got,) = tile_batches([TileSource(slides[0].path, slides[0].grid, rows=rows)], 112)
    assert got.rows.tolist() == rows.tolist()
    with open_slide(slides[0].path) as slide:
        assert np.array_equal(got.tiles, slide.tile_array(slides[0].grid, 112)[rows])


def test_nothing_asked_for_is_nothing_read(slides):
    nothing = TileSource(slides[0].path.with_name("gone.tif"), slides[0].grid, rows=np.empty(0, np.int64))
    assert list(tile_batches([nothing], 112)) == [] == list(tile_batches([], 112))


def test_both_ways_of_resizing_agree(slides):
    by_torch, by_pillow = (next(tile_batches(slides, 56, 48, engine=engine)).tiles.astype(int) for engine in ("torch", "pillow"))
    assert by_torch.std() > 0 and np.abs(by_torch - by_pillow).max() <= 2


def test_a_bad_tile_is_told_and_its_neighbours_are_whole(tmp_path, slides):
    path = tmp_path / "bad.tif"
    path.write_bytes(slides[0].path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].dataoffsets[5]  # of 4 x 3 tiles of 256 px: x and y from 256 to 512
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(bytes(40))
    grid = slides[0].grid
    touched = ((grid.xy < 512) & (grid.xy + 112 > 256)).all(axis=1)
    (got,) = tile_batches([TileSource(path, grid)], 112, threads=3)
    assert got.readable.tolist() == (~touched).tolist()
    assert sorted(got.reasons) == np.flatnonzero(touched).tolist()
    assert all(reason.endswith(".") for reason in got.reasons.values())
    assert (got.tiles[touched] == 255).all()
    (whole,) = tile_batches([slides[0]], 112)
    assert np.array_equal(got.tiles[~touched], whole.tiles[~touched])


REFUSALS = {
    FindingCode.FILE_MISSING: lambda source, folder: TileSource(folder / "gone.svs", source.grid),
    FindingCode.UNSUPPORTED_FORMAT: lambda source, folder: TileSource(folder / "page.svs", source.grid),
    FindingCode.LEVEL_TOO_LOW: lambda source, folder: TileSource(source.path, source.grid, mpp=4.0),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_slide_that_cannot_be_read_does_not_end_the_run(tmp_path, slides, code):
    (tmp_path / "page.svs").write_text("<html></html>")
    bad = REFUSALS[code](slides[1], tmp_path)
    if code == FindingCode.LEVEL_TOO_LOW:
        bad = TileSource(bad.path, TileGrid(bad.grid.xy, 28.0, MPP, bad.grid.slide_size), mpp=4.0)
    got = list(tile_batches([slides[0], bad, slides[2]], 112, 5, tell_refused=True))
    refused = [b for b in got if b.refused]
    assert [(b.source, b.refused.code, len(b.rows), b.tiles.shape) for b in refused] == [(1, code, 0, (0, 112, 112, 3))]
    assert {b.source for b in got} == {0, 1, 2}
    assert sum(len(b.rows) for b in got) == len(slides[0].grid) + len(slides[2].grid)

    seen = []
    with pytest.raises(SlideError) as caught:
        seen.extend(b.source for b in tile_batches(iter([slides[0], bad, slides[2]]), 112, 1000))
    assert caught.value.code == code and not decoding_threads()


def open_handles(paths):
    known = {str(path.resolve()) for path in paths}
    return sum(os.path.realpath(f"/proc/self/fd/{n}") in known for n in os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("how", ["close", "break", "error"])
def test_who_leaves_early_stops_the_threads_and_closes_the_files(slides, how):
    stream = tile_batches(slides * 3, 56, 4, threads=2)
    if how == "close":
        next(stream)
        stream.close()
    elif how == "break":
        for _ in stream:
            break
        del stream
    else:
        with pytest.raises(ZeroDivisionError):
            for _ in stream:
                1 / 0  # noqa: B018
        del stream
    assert not decoding_threads()
    assert open_handles(source.path for source in slides) == 0


def test_an_error_that_is_no_slides_fault_reaches_the_reader(slides, monkeypatch):
    def broken(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(Slide, "cut", broken)
    with pytest.raises(MemoryError):
        list(tile_batches(slides, 56))
    assert not decoding_threads()


def test_memory_is_that_of_a_fixed_number_of_batches(slides, monkeypatch):
    """However slow the reader of the stream is, no more than ahead + 1 batches are handed to the threads; slides are opened one ahead."""
    handed, opened = [], []
    hand_out, begin = loader._Run._hand_out, loader.open_slide
    monkeypatch.setattr(loader._Run, "_hand_out", lambda run, *a: handed.append(1) or hand_out(run, *a))
    monkeypatch.setattr(loader, "open_slide", lambda *a, **k: opened.append(a[0]) or begin(*a, **k))
    stream = tile_batches(slides, 56, 8, threads=2, ahead=2)
    for taken, _ in enumerate(stream, 1):
        assert len(handed) <= taken + 2
        if taken == 1:
            assert set(opened) == {slides[0].path, slides[1].path}
    assert sorted(opened) == [source.path for source in slides]


def test_memory_is_used_again_and_never_under_somebody_who_holds_it(slides):
    """Slices, fancy views and torch tensors of a batch keep it; what nobody holds any more takes later batches."""
    import torch

    with open_slide(slides[0].path) as slide:
        expected = slide.tile_array(slides[0].grid, 56)
    stream, held, places = tile_batches([slides[0]] * 8, 56, 8, threads=2, ahead=1, engine="pillow"), [], set()
    for number, found in enumerate(stream):
        places.add(found.tiles.__array_interface__["data"][0])
        if number % 10 == 0:
            held.append((found.rows, (found.tiles[:], found.tiles[:, ::-1], torch.from_numpy(found.tiles[1:]))))
    batches = number + 1
    del found
    assert batches > 40 and len(held) == -(-batches // 10)
    assert len(places) <= len(held) + 3 + 1
    for rows, (plain, flipped, tensor) in held:
        assert np.array_equal(plain, expected[rows])
        assert np.array_equal(flipped[:, ::-1], expected[rows])
        assert np.array_equal(tensor.numpy(), expected[rows[1:]])
