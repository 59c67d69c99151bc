"""Blocks of long work: whole or absent, of this input or of none, the same raster on every attempt."""

import errno

import numpy as np
import pytest

from ml.slides.blocks import MAGIC, Block, BlockFolder, grid_hash, rows_per_block
from ml.slides.findings import FindingCode, SlideError
from ml.types import TileGrid

N = 2_000  # 40 tiles a block
INPUTS = {"slide": "a" * 64, "encoder": "x"}


def block(folder, start, bad=()):
    size = folder.size(start)
    rows = np.arange(start, start + size)
    readable = ~np.isin(rows, bad)
    arrays = {"features": np.outer(rows, np.ones(3)).astype(np.float32), "class": rows.astype(np.int16)}
    return Block(start, arrays, readable, {int(r): "It is torn." for r in bad}, seconds=0.5, waited=0.25)


def filled(path, count, inputs=INPUTS, bad=()):
    folder = BlockFolder(path, N, inputs)
    for start in folder.starts()[:count]:
        folder.write(block(folder, start, [r for r in bad if start <= r < start + folder.rows]))
    return folder


def test_a_block_is_at_most_two_percent_and_half_a_minute():
    assert [rows_per_block(n) for n in (1, 800, 20_000, 10**7)] == [16, 16, 400, 512]
    assert all(rows_per_block(n) <= 0.02 * n for n in range(800, 30_000, 7))
    assert rows_per_block(20_000, seconds_per_tile=1.5) == 20 and rows_per_block(20_000, seconds_per_tile=90) == 1


def test_work_goes_on_where_it_was(tmp_path):
    first = filled(tmp_path, 7, bad=(3, 41))
    again = BlockFolder(tmp_path, N, INPUTS)
    assert (len(again), again.complete, again.todo()[0], len(again.todo())) == (280, False, 280, N - 280)
    assert again.bad == {3: "It is torn.", 41: "It is torn."} and again.seconds == (3.5, 1.75)
    for start in again.starts():
        again.write(block(again, start))
    assert again.complete and not len(again.todo())
    arrays = again.arrays()
    assert np.array_equal(arrays["features"][:, 1], np.arange(N)) and arrays["class"].dtype == np.int16
    assert [b.start for b in again] == list(range(0, N, first.rows))
    again.remove()
    assert not tmp_path.exists()


def test_the_raster_of_the_first_attempt_stays(tmp_path):
    BlockFolder(tmp_path, N, INPUTS, rows=10)
    assert BlockFolder(tmp_path, N, INPUTS, rows=33).rows == 10
    assert BlockFolder(tmp_path, N, {"slide": "b"}, rows=33).rows == 33


@pytest.mark.parametrize("other", [{"slide": "b" * 64, "encoder": "x"}, {"slide": "a" * 64, "encoder": "y"}, {}])
def test_blocks_of_another_input_are_never_mixed_in(tmp_path, other):
    filled(tmp_path, 5)
    assert len(BlockFolder(tmp_path, N, other)) == 0
    assert not list(tmp_path.glob("*.block"))


@pytest.mark.parametrize("damage", ["truncated", "one byte", "empty", "no header", "renamed", "half written"])
def test_a_damaged_block_is_done_again_and_only_that_one(tmp_path, damage):
    filled(tmp_path, 5)
    victim = sorted(tmp_path.glob("*.block"))[2]
    raw = victim.read_bytes()
    if damage == "renamed":
        victim.rename(victim.with_name("0000000400.block"))
    elif damage == "half written":
        victim.rename(victim.with_name(".part-abc.block"))
    else:
        middle = len(raw) // 2
        flipped = raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]
        victim.write_bytes({"truncated": raw[:-7], "one byte": flipped, "empty": b"", "no header": MAGIC}[damage])
    again = BlockFolder(tmp_path, N, INPUTS)
    assert len(again) == 160 and again.starts()[0] == 80 and np.array_equal(again.todo()[:40], np.arange(80, 120))
    assert len(list(tmp_path.iterdir())) == 5  # four good blocks and run.json: what is of no use is gone


def test_a_block_that_is_damaged_while_it_waits_is_told_and_made_again(tmp_path):
    folder = filled(tmp_path, 50)
    (tmp_path / "0000000040.block").write_bytes(b"rubbish")
    with pytest.raises(SlideError) as caught:
        folder.arrays()
    assert caught.value.code == FindingCode.BLOCK_DAMAGED
    assert folder.starts() == [40]
    folder.write(block(folder, 40))
    assert np.array_equal(folder.arrays()["class"], np.arange(N))


def test_a_full_disk_costs_the_block_in_work_only(tmp_path, monkeypatch):
    folder = filled(tmp_path, 3)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ml.slides.files._sync", full)
    with pytest.raises(OSError):
        folder.write(block(folder, 120))
    monkeypatch.undo()
    assert len(folder) == 120 and len(BlockFolder(tmp_path, N, INPUTS)) == 120
    assert len(list(tmp_path.iterdir())) == 4


def test_blocks_keep_to_the_raster(tmp_path):
    folder = BlockFolder(tmp_path, N, INPUTS)
    with pytest.raises(ValueError, match="raster"):
        folder.write(Block(5, {}, np.ones(40, bool)))
    with pytest.raises(ValueError, match="raster"):
        folder.write(Block(0, {}, np.ones(39, bool)))


def test_bad_tiles_can_be_read_once_more(tmp_path):
    folder = filled(tmp_path, 50, bad=(85, 86, 1990))
    folder.forget_bad()
    assert folder.starts() == [80, 1960] and not folder.bad


def test_another_grid_is_another_input():
    grid = TileGrid(np.array([[0, 0], [10, 0]]), 10.0, 0.5, (100, 100))
    others = [
        TileGrid(np.array([[0, 0], [10, 1]]), 10.0, 0.5, (100, 100)),
        TileGrid(grid.xy, 10.5, 0.5, (100, 100)),
        TileGrid(grid.xy, 10.0, 0.25, (100, 100)),
        TileGrid(grid.xy, 10.0, 0.5, (100, 101)),
    ]
    assert len({grid_hash(g) for g in [grid, *others]}) == 5
    assert grid_hash(grid) == grid_hash(TileGrid(grid.xy.copy(), 10.0, 0.5, (100, 100), np.ones(2, np.float32)))
