"""Slides to feature bags: the same numbers however often it was interrupted; bad tiles are told and left out; a full disk loses nothing."""

import errno
import os
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from fine_slides import MPP, TILE_PX, MeanColour, write_fine_slide

from ml.encoders import extract as extraction
from ml.encoders.extract import Extraction, Failed, extract, extract_slides, main
from ml.simulate.write import write_pyramid
from ml.slides.blocks import BlockFolder
from ml.slides.estimate import bag_bytes, check_disk, told, working_bytes
from ml.slides.features import check_bag, read_bag
from ml.slides.findings import FindingCode, SlideError
from ml.slides.loader import TileSource
from ml.slides.reader import open_slide
from ml.slides.tile_run import bad_limit
from ml.types import TileGrid

SIDE = 30  # tiles along an edge


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return write_fine_slide(tmp_path_factory.mktemp("fine") / "LU-1.tif", SIDE * SIDE)


@pytest.fixture
def source(slide):
    steps = np.arange(SIDE) * TILE_PX
    xy = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2).astype(np.int64)
    return TileSource(slide, TileGrid(xy, float(TILE_PX), MPP, (SIDE * TILE_PX,) * 2, np.ones(len(xy), np.float32)))


def run(source, target, encoder=None, **more):
    encoder = encoder or MeanColour()
    return extract(source, encoder, target, target.with_suffix(".blocks"), "LU-1", **more), encoder


class Stop(BaseException):
    """What a cancelled job raises from its progress."""


def stop_at(tiles):
    def progress(name, done, n):
        if done >= tiles:
            raise Stop

    return progress


def test_the_bag_holds_what_the_encoder_gives_for_each_tile(source, tmp_path):
    found, encoder = run(source, tmp_path / "a.h5")
    bag = read_bag(tmp_path / "a.h5")
    with open_slide(source.path) as opened:
        expected = encoder(opened.tile_array(source.grid, TILE_PX))
    assert np.array_equal(bag.features, expected)
    assert np.array_equal(bag.grid.xy, source.grid.xy) and bag.encoder == "mean-colour"
    assert (found.n_tiles, found.n_skipped, found.dim, found.done_before) == (900, 0, 48, 0)
    assert found.tiles_per_second > 0 and 0 <= found.waited_seconds <= found.seconds
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.blocks", "a.h5"]


@pytest.mark.parametrize("tiles", [1, 300, 899])
def test_interrupted_work_goes_on_and_gives_the_same_file(source, tmp_path, tiles):
    whole, _ = run(source, tmp_path / "whole.h5")
    with pytest.raises(Stop):
        run(source, tmp_path / "a.h5", progress=stop_at(tiles))
    assert not (tmp_path / "a.h5").exists()
    again, encoder = run(source, tmp_path / "a.h5")
    assert again.done_before >= tiles and encoder.seen == whole.n_tiles - again.done_before
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_other_weights_or_another_slide_begin_anew(source, tmp_path):
    for change in ("weights", "inputs"):
        with pytest.raises(Stop):
            run(source, tmp_path / "a.h5", progress=stop_at(300))
        other = MeanColour()
        if change == "weights":
            other.weights_sha256 = "1" * 64
        found, _ = run(source, tmp_path / "a.h5", other, inputs={"slide": "changed"} if change == "inputs" else None)
        assert found.done_before == 0


def torn(rows):
    """The loader of a slide whose tiles `rows` cannot be decoded."""
    inner = extraction.run_one.__globals__["tile_batches"]

    def batches(sources, out_px, batch=256, **more):
        for found in inner(sources, out_px, batch, **more):
            bad = np.isin(found.rows, rows)
            found.tiles[bad] = 255
            reasons = {int(row): "It is torn." for row in found.rows[bad]}
            yield replace(found, readable=found.readable & ~bad, reasons=reasons)

    return batches


def test_bad_tiles_are_left_out_and_told(source, tmp_path, monkeypatch):
    whole, _ = run(source, tmp_path / "whole.h5")
    bad = [0, 31, 32, 450, 899]
    monkeypatch.setattr("ml.slides.tile_run.tile_batches", torn(bad))
    found, _ = run(source, tmp_path / "a.h5")
    kept = np.setdiff1d(np.arange(900), bad)
    full, bag = read_bag(tmp_path / "whole.h5"), read_bag(tmp_path / "a.h5")
    assert np.array_equal(bag.features, full.features[kept]) and np.array_equal(bag.grid.xy, full.grid.xy[kept])
    assert (found.n_tiles, found.n_skipped, found.skipped) == (895, 5, {"It is torn.": 5})
    assert check_bag(tmp_path / "a.h5").skipped == dict.fromkeys(bad, "It is torn.")
    with h5py.File(tmp_path / "a.h5") as file:
        assert np.array_equal(file["skipped"][:, 1:], source.grid.xy[bad])
    assert whole.n_skipped == 0


def test_too_many_bad_tiles_stop_the_slide_and_a_repaired_disk_lets_it_go_on(source, tmp_path, monkeypatch):
    assert [bad_limit(n) for n in (1, 99, 900, 20_000, 10**6)] == [1, 1, 9, 200, 500]
    monkeypatch.setattr("ml.slides.tile_run.tile_batches", torn(list(range(200, 260))))
    with pytest.raises(SlideError) as caught:
        run(source, tmp_path / "a.h5")
    assert caught.value.code == FindingCode.TOO_MANY_BAD_TILES and "9 of 900 may be skipped" in caught.value.sentence
    assert not (tmp_path / "a.h5").exists() and (tmp_path / "a.blocks").is_dir()
    monkeypatch.undo()
    found, _ = run(source, tmp_path / "a.h5")
    assert found.n_skipped == 0 and found.done_before >= 190


def test_a_damaged_block_is_told_and_done_again(source, tmp_path, monkeypatch):
    inner = BlockFolder.complete.fget

    def complete(folder):
        if inner(folder):
            (folder.folder / "0000000000.block").write_bytes(b"rot")
        return inner(folder)

    monkeypatch.setattr(BlockFolder, "complete", property(complete))
    with pytest.raises(SlideError) as caught:
        run(source, tmp_path / "a.h5")
    assert caught.value.code == FindingCode.BLOCK_DAMAGED and not (tmp_path / "a.h5").exists()
    monkeypatch.undo()
    found, encoder = run(source, tmp_path / "a.h5")
    assert encoder.seen == 900 - found.done_before <= 18


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 2 MB that becomes full; where this machine allows no mount, there is nothing to test it on."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("This machine allows no mount; the full disk by errno is tested below.")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_becomes_full_keeps_the_blocks_and_goes_on_when_there_is_room(source, small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * (2 * 1024 * 1024 - 90 * 1024))
    with pytest.raises(SlideError) as caught:
        run(source, small_disk / "a.h5")
    assert caught.value.code == FindingCode.DISK_FULL and "Free at least" in caught.value.hint
    kept = len(list((small_disk / "a.blocks").glob("*.block")))
    assert kept > 0 and not (small_disk / "a.h5").exists()
    ballast.write_bytes(b"\0" * (2 * 1024 * 1024 - 290 * 1024))  # room for the blocks, not for the file beside them
    with pytest.raises(SlideError) as caught:
        run(source, small_disk / "a.h5")
    assert caught.value.code == FindingCode.DISK_FULL
    ballast.unlink()
    found, encoder = run(source, small_disk / "a.h5")
    assert found.done_before == 900 and check_bag(small_disk / "a.h5").n == 900
    assert encoder.seen == 0


def test_a_full_disk_by_its_errno(source, tmp_path, monkeypatch):
    inner, written = os.replace, []

    def full(part, target):
        if len(written) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(target)
        inner(part, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SlideError) as caught:
        run(source, tmp_path / "a.h5")
    assert caught.value.code == FindingCode.DISK_FULL
    monkeypatch.undo()
    assert run(source, tmp_path / "a.h5")[0].done_before == 3 * 18  # run.json was the first of the four


def test_what_does_not_fit_is_not_begun(tmp_path):
    needed = working_bytes(10**12, 1024)
    assert needed > 2 * 4096 * 10**12 and bag_bytes(0, 1024) < 10**5
    with pytest.raises(SlideError) as caught:
        check_disk(tmp_path / "not" / "yet", needed)
    assert caught.value.code == FindingCode.DISK_TOO_FULL and told(needed) in caught.value.sentence
    check_disk(tmp_path, needed, there=needed)


def test_many_slides_and_one_bad_among_them(slide, tmp_path):
    (tmp_path / "slides").mkdir()
    second = write_fine_slide(tmp_path / "slides" / "LU-2.tif", 500, seed=2)
    broken = tmp_path / "slides" / "broken.svs"
    broken.write_bytes(second.read_bytes()[:3000])
    coarse = write_pyramid(tmp_path / "slides" / "coarse.tif", np.full((300, 300, 3), 120, np.uint8), 353.0)
    paths = [slide, broken, second, tmp_path / "absent.svs", tmp_path / "slides" / "LU-1.tif", coarse]
    paths[4].write_bytes(second.read_bytes())
    encoder = MeanColour()
    first = {f.name + type(f).__name__: f for f in extract_slides(paths, encoder, tmp_path / "out")}
    assert sorted(first) == ["LU-1Extraction", "LU-1Failed", "LU-2Extraction", "absentFailed", "brokenFailed", "coarseFailed"]
    assert first["coarseFailed"].error.code == FindingCode.LEVEL_TOO_LOW
    assert first["LU-1Failed"].error.code == FindingCode.SLIDE_NAMED_TWICE
    assert first["absentFailed"].error.code == FindingCode.FILE_MISSING
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["LU-1.h5", "LU-2.h5"]

    seen = encoder.seen
    (tmp_path / "out" / "LU-2.h5").write_bytes((tmp_path / "out" / "LU-2.h5").read_bytes()[:-200])
    again = [f for f in extract_slides(paths[:3], encoder, tmp_path / "out") if isinstance(f, Extraction)]
    assert encoder.seen - seen == again[1].n_tiles + 5 and [f.done_before for f in again] == [900, 0]
    assert all(isinstance(f, Extraction | Failed) for f in first.values())


def test_the_command_line_says_what_became_of_each(slide, tmp_path, capsys):
    arguments = ["--encoder", "he-descriptors", "--out", str(tmp_path / "out"), "--tile-um", "56"]
    assert main([str(slide), str(tmp_path / "none.svs"), *arguments]) == 1
    out = capsys.readouterr().out
    assert "LU-1: 64 tiles, 0 skipped" in out and "none: FILE_MISSING: There is no file none.svs." in out
    assert main([str(slide), *arguments]) == 0
    assert "was there" in capsys.readouterr().out
    assert main([str(slide), *arguments[2:], "--encoder", "nonsense"]) == 1
    assert "nonsense" in capsys.readouterr().err


def test_fixed_descriptors_of_resized_tiles_need_no_torch(source, tmp_path):
    """Tiles of more pixels than the encoder takes are made smaller: no reason to import torch, and the bag says how it was done."""
    code = (
        "import sys\nfrom ml.encoders.extract import extract_slides\nfrom ml.encoders.runtime import load_encoder\n"
        f"(found,) = extract_slides([{str(source.path)!r}], load_encoder('he-descriptors'), {str(tmp_path)!r}, min_tissue=0.0)\n"
        "print(found.n_tiles, found.tile_um, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tiles, tile_um, torch_there = done.stdout.split()
    assert int(tiles) > 0 and float(tile_um) == 112.0 and torch_there == "False"
    (bag,) = tmp_path.glob("*.h5")
    with h5py.File(bag) as file:
        assert "pillow" in str({key: value for group in (file, *file.values()) for key, value in group.attrs.items()})
