"""Tiles of JPEG slides, beside OpenSlide (and tiffslide and fastslide where they are installed); same tiles, pixels compared in the run.

Run: python tests/bench/bench_slide_tiles.py
Row 1: file -> RGB, on the file's own grid and on a 224 px grid. Row 2: file -> normalised float32 batch of 224 px. One thread each; then
the same stream with one and two threads. On a generated SVS of 4,096 tiles and, where $TISSUEBOARD_DATA is set, on real ones.
All take turns on strips of tiles, processor time is counted, and each strip counts with its fastest pass: other work on the machine
disturbs all of them. tiffslide and fastslide read some of the strips. Ours writes every strip into the same memory.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy starts
import os
import sys
import tempfile
import time
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import numpy as np
import openslide
import torch
from jpeg_slides import abbreviated, encode, tissue_like
from PIL import Image
from torchvision.transforms import functional as vision

from ml.slides.loader import TileSource, tile_batches
from ml.slides.reader import Slide
from ml.slides.resample import TORCH, model_ready
from ml.types import TileGrid

SIDE, TILE, STRIP, REPEATS, PX = 16_384, 256, 256, 2, 224
PEER_STRIPS = 2
MPP = 0.5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def write_svs(path):
    """An Aperio SVS of 64 x 64 tiles (YCbCr 4:2:2, shared tables), 256 different ones in another order each time."""
    import tifffile

    picture = tissue_like(16 * TILE, 16 * TILE, seed=1, grain=4)
    places = [(y, x) for y in range(0, 16 * TILE, TILE) for x in range(0, 16 * TILE, TILE)]
    parts = [abbreviated(encode(np.ascontiguousarray(picture[y : y + TILE, x : x + TILE]), True, "422")) for y, x in places]
    order = np.random.default_rng(0).integers(0, len(parts), (SIDE // TILE) ** 2)
    text = f"Aperio Image Library v12.0\n{SIDE}x{SIDE} (256x256) JPEG/RGB Q=80|AppMag = 20|MPP = {MPP}"
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(
            (parts[i][1] for i in order), shape=(SIDE, SIDE, 3), dtype=np.uint8, tile=(TILE, TILE), compression="jpeg", photometric="ycbcr",
            subsampling=(2, 1), jpegtables=parts[0][0], description=text, metadata=None, software=False,
        )  # fmt: skip
    return path


def grid_of(path, side):
    with Slide(path, mpp=MPP, direct=False) as slide:
        width, height = slide.size
    xy = [(x, y) for y in range(0, height - side + 1, side) for x in range(0, width - side + 1, side)]
    return TileGrid(np.array(xy, np.int64), float(side), MPP, (width, height))


def by_openslide(path, side):
    handle = openslide.OpenSlide(str(path))
    return lambda xy: np.stack([np.asarray(handle.read_region((int(x), int(y)), 0, (side, side)).convert("RGB")) for x, y in xy])


def by_tiffslide(path, side):
    import tiffslide

    handle = tiffslide.TiffSlide(str(path))
    return lambda xy: np.stack([handle.read_region((int(x), int(y)), 0, (side, side), as_array=True) for x, y in xy])


def by_fastslide(path, side):
    import fastslide

    handle = fastslide.FastSlide.from_file_path(str(path))
    return lambda xy: np.stack([handle.read_region((int(x), int(y)), 0, (side, side)).numpy()[..., :3] for x, y in xy])


def ours(path, side):
    slide = Slide(path, mpp=MPP)
    assert slide.reading.how.startswith("direct"), slide.reading.why
    room = np.zeros((STRIP, side, side, 3), np.uint8)
    return lambda xy: slide.cut(TileGrid(xy, float(side), MPP, slide.size), np.arange(len(xy)), side, TORCH, room[: len(xy)])


def model_openslide(path, side):
    """What a worker of a torch data loader does: read, resize, ToTensor, Normalize, stack. Also the grey levels before that."""
    handle = openslide.OpenSlide(str(path))

    def read(xy):
        pictures = [
            handle.read_region((int(x), int(y)), 0, (side, side)).convert("RGB").resize((PX, PX), Image.Resampling.BILINEAR) for x, y in xy
        ]
        return torch.stack([vision.normalize(vision.to_tensor(picture), MEAN, STD) for picture in pictures])

    return read


def model_ours(path, side):
    slide = Slide(path, mpp=MPP)
    assert slide.reading.how.startswith("direct"), slide.reading.why
    room = np.zeros((STRIP, PX, PX, 3), np.uint8)
    ready = model_ready(room, MEAN, STD)

    def read(xy):
        n = len(xy)
        tiles = slide.cut(TileGrid(xy, float(side), MPP, slide.size), np.arange(n), PX, TORCH, room[:n])
        return model_ready(tiles, MEAN, STD, ready[:n])

    return read


def race(path, grid, side, entrants, check):
    """Seconds per tile of each entrant, and the worst of check(result, result of the first). Openslide and ours read every tile."""
    strips = [grid.xy[start : start + STRIP] for start in range(0, len(grid), STRIP)]
    seconds = {name: np.full(len(strips), np.inf) for name in entrants}
    worst = dict.fromkeys(entrants, 0.0)
    for repeat in range(REPEATS):
        readers = {name: make(path, side) for name, make in entrants.items()}
        for number, xy in enumerate(strips):
            first = None
            for name, read in readers.items():
                if number >= PEER_STRIPS and name not in ("openslide", "ours"):
                    continue
                start = time.process_time()
                result = read(xy)
                seconds[name][number] = min(seconds[name][number], time.process_time() - start)
                if repeat == 0:
                    first = result if first is None else first
                    worst[name] = max(worst[name], check(result, first))
    counted = {name: np.isfinite(taken) for name, taken in seconds.items()}
    sizes = np.array([len(xy) for xy in strips])
    return {name: taken[counted[name]].sum() / sizes[counted[name]].sum() for name, taken in seconds.items()}, worst


def grey_difference(a, b):
    return int(np.abs(a.astype(np.int16) - b).max())


def denormalised_difference(a, b):
    """Largest difference in grey levels of two normalised batches."""
    return round(float((((a - b) * torch.tensor(STD)[:, None, None]).abs() * 255).max()), 3)


def installed(entrants, path, side, xy):
    """Those that can be imported and open this file."""
    kept = {}
    for name, make in entrants.items():
        try:
            make(path, side)(xy)
            kept[name] = make
        except Exception as error:
            print(f"  {name}: not compared ({type(error).__name__}: {str(error)[:80]})")
    return kept


def row_1(path, own_side):
    for side, title in ((own_side, "the file's own grid"), (PX, f"{PX} px grid")):
        grid = grid_of(path, side)
        peers = installed({"tiffslide": by_tiffslide, "fastslide": by_fastslide}, path, side, grid.xy[:2])
        entrants = {"openslide": by_openslide, **peers, "ours": ours}
        taken, worst = race(path, grid, side, entrants, grey_difference)
        told = ", ".join(f"{name} {1e3 * t:.2f} ms" for name, t in taken.items())
        ratios = ", ".join(f"{taken[name] / taken['ours']:.1f}x {name}" for name in taken if name != "ours")
        differ = ", ".join(f"{name} {value:g}" for name, value in worst.items() if name != "openslide")
        print(f"  row 1, {title}, {len(grid)} tiles: {told} per tile; ratio {ratios}; pixel difference from openslide: {differ}")


def row_2(path, side):
    grid = grid_of(path, side)
    taken, worst = race(path, grid, side, {"openslide": model_openslide, "ours": model_ours}, denormalised_difference)
    print(
        f"  row 2, {side} px -> {PX} px float32, {len(grid)} tiles: openslide + PIL + torchvision {1e3 * taken['openslide']:.2f} ms, "
        f"ours {1e3 * taken['ours']:.2f} ms per tile; ratio {taken['openslide'] / taken['ours']:.1f}x; "
        f"largest difference {worst['ours']} grey levels"
    )


def stream(path, side):
    grid = grid_of(path, side)
    told = []
    for workers in (1, 2):
        best = np.inf
        for _ in range(REPEATS):
            start = time.perf_counter()
            seen = sum(
                len(model_ready(batch.tiles, MEAN, STD)) for batch in tile_batches([TileSource(path, grid, MPP)], PX, 128, threads=workers)
            )
            best = min(best, time.perf_counter() - start)
            assert seen == len(grid)
        told.append(f"{workers} thread{'s' * (workers > 1)} {1e3 * best / len(grid):.2f} ms")
    print(f"  tile_batches + model_ready, {side} px -> {PX} px: {', '.join(told)} per tile on {len(os.sched_getaffinity(0))} cores")


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = write_svs(Path(folder) / "generated.svs")
        size = path.stat().st_size / (SIDE // TILE) ** 2 / 1e3
        print(f"generated SVS, {SIDE} x {SIDE} px, JPEG tiles of {TILE} px (YCbCr 4:2:2), {size:.1f} kB per tile")
        row_1(path, TILE)
        row_2(path, TILE)
        stream(path, TILE)
    data = os.environ.get("TISSUEBOARD_DATA")
    for name, side in (("cmu-1-small-region.svs", 240), ("tcga-cr-7395-01a-01-ts1.svs", 256)) if data else ():
        path = Path(data) / "wsi" / name
        with Slide(path, mpp=MPP) as slide:
            print(f"{name}, real, {slide.size[0]} x {slide.size[1]} px, {slide.reading.how}")
        row_1(path, side)
        row_2(path, side)


if __name__ == "__main__":
    main()
