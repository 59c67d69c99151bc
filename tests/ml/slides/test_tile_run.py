"""One run over many slides: none waits for another, one that fails is told and left, and what was finished stays."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fine_slides import MPP, TILE_PX, MeanColour, write_fine_slide

from ml.slides import tile_run
from ml.slides.findings import FindingCode
from ml.slides.loader import TileSource, tile_batches
from ml.slides.tile_run import SlideWork, TilesDone, ahead, run_tiles
from ml.types import TileGrid

SIDE = 20
N = SIDE * SIDE


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fine")
    return [write_fine_slide(folder / f"{name}.tif", N, seed=i) for i, name in enumerate("abcd")]


def work_of(path: Path, blocks: Path, side: int = SIDE) -> SlideWork:
    steps = np.arange(side) * TILE_PX
    xy = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2).astype(np.int64)
    return SlideWork(path.stem, TileSource(path, TileGrid(xy, float(TILE_PX), MPP, (side * TILE_PX,) * 2)), blocks / path.stem)


def run(works, encoder=None, **more):
    """By name: the finished slide, or the code of its error."""
    encoder = encoder or MeanColour()
    found = {}
    for one in run_tiles(works, lambda tiles: {"features": encoder(tiles)}, TILE_PX, {"encoder": "mean"}, **more):
        if isinstance(one, TilesDone):
            found[one.work.name] = one
        else:
            found[one[0].name] = one[1].code
    return found


def torn(monkeypatch, names):
    """Slides of these names have tiles 100 to 150 that cannot be decoded."""

    def batches(sources, out_px, batch=256, **more):
        paths = []

        def noted():
            for source in sources:
                paths.append(source.path)
                yield source

        for found in tile_batches(noted(), out_px, batch, **more):
            bad = (found.rows >= 100) & (found.rows < 150) & (paths[found.source].stem in names)
            yield replace(found, readable=found.readable & ~bad, reasons={int(row): "It is torn." for row in found.rows[bad]})

    monkeypatch.setattr(tile_run, "tile_batches", batches)


def test_every_slide_gets_its_own_numbers(slides, tmp_path):
    encoder = MeanColour()
    found = run([work_of(path, tmp_path) for path in slides], encoder)
    assert list(found) == list("abcd") and all(one.folder.complete for one in found.values())
    features = [one.folder.arrays()["features"] for one in found.values()]
    assert all(len(f) == N for f in features) and not any(np.array_equal(features[0], f) for f in features[1:])
    for path, array in zip(slides, features):
        (alone,) = run([work_of(path, tmp_path / "alone")]).values()
        assert np.array_equal(alone.folder.arrays()["features"], array)


def test_a_slide_that_fails_does_not_stop_the_others(slides, tmp_path, monkeypatch):
    torn(monkeypatch, {"b"})
    works = [work_of(path, tmp_path) for path in slides]
    gone = replace(works[2], name="gone", source=replace(works[2].source, path=tmp_path / "gone.tif"), blocks=tmp_path / "gone")
    found = run([works[0], works[1], gone, works[3]])
    assert found["b"] == FindingCode.TOO_MANY_BAD_TILES and found["gone"] == FindingCode.FILE_MISSING
    assert found["a"].folder.complete and found["d"].folder.complete and len(found) == 4

    monkeypatch.undo()
    encoder = MeanColour()
    again = run([works[1]], encoder)["b"]
    assert again.done_before >= 90 and encoder.seen == N - again.done_before


def test_a_slide_is_read_while_the_next_one_is_still_looked_at(slides, tmp_path):
    large = write_fine_slide(tmp_path / "large.tif", 1600)  # more than the loader reads before it gives anything
    first, second, third = work_of(large, tmp_path, 40), *(work_of(path, tmp_path) for path in slides[:2])
    begun = threading.Event()

    def slow():
        assert begun.wait(30)
        return third.source

    works = [first, second, replace(third, source=slow)]
    found = run(works, progress=lambda name, done, n: begun.set())
    assert sorted(found) == ["a", "b", "large"] and all(isinstance(one, TilesDone) for one in found.values())


def test_what_is_finished_is_given_without_reading(slides, tmp_path):
    works = [work_of(path, tmp_path) for path in slides]
    run(works[:2])
    encoder = MeanColour()
    found = run(works, encoder)
    assert [one.done_before for one in found.values()] == [N if name in "ab" else 0 for name in found]
    assert encoder.seen <= 2 * N + 5 and sorted(found) == list("abcd")


def test_an_error_of_the_encoder_goes_on_and_leaves_no_thread(slides, tmp_path):
    def breaks(tiles):
        raise RuntimeError("device lost")

    with pytest.raises(RuntimeError, match="device lost"):
        list(run_tiles([work_of(slides[0], tmp_path)], breaks, TILE_PX, {}))
    before = threading.active_count()
    for depth in (1, 3):
        items = ahead(iter(range(1000)), depth)
        assert [next(items) for _ in range(5)] == list(range(5))
        items.close()
    assert threading.active_count() == before


def test_what_is_made_ahead_comes_in_order_and_its_error_after_it():
    def items():
        yield from range(7)
        raise KeyError("the seventh")

    got = []
    with pytest.raises(KeyError, match="seventh"):
        for item in ahead(items(), 2):
            got.append(item)
    assert got == list(range(7))
