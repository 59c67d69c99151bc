"""Tiles of JPEG slides, beside OpenSlide (and tiffslide and fastslide where they are installed); same tiles, pixels compared in the run.

Run: python tests/bench/bench_slide_tiles.py
Row 1: file -> RGB, on the file's own grid and on a 224 px grid. Row 2: file -> normalised float32 of 224 px, in batches of 16 as an encoder
on a CPU takes them, from tiles of 256 px and of 448 px (a 40x scan read at 20x). One thread each; then the same stream with one and two
threads. On a generated SVS that is square and on one as wide as a whole scan (two rows of its tiles are more than OpenSlide's cache of
32 MB holds, so that it decodes again on every grid but its own), and, where $TISSUEBOARD_DATA is set, on real ones. The floor is what the
same libraries take for decoding, resizing and normalising alone. All take turns on strips of 256 tiles, processor time is counted, and each
strip counts with its fastest pass: other work on the machine disturbs all of them. tiffslide and fastslide read some of the strips. Ours
writes every strip into the same memory, as the loader does.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy starts
import os
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import numpy as np
import openslide
import simplejpeg
import torch
from jpeg_slides import abbreviated, encode, tissue_like
from PIL import Image
from table import table_row
from torchvision.transforms import functional as vision

from ml.slides.jpeg import whole_jpeg
from ml.slides.loader import PART, TileSource, tile_batches
from ml.slides.reader import Slide
from ml.slides.resample import TORCH, model_ready, resize_tiles
from ml.slides.tiff_index import tiled_levels
from ml.types import TileGrid

TILE, STRIP, REPEATS, PX = 256, 256, 3, 224
SQUARE, WIDE = (8_192, 8_192), (40_960, 1_792)  # width, height px
PEER_STRIPS = 1
BATCH, SLIDES = 16, 3  # tiles of a model's batch on a CPU; slides in a stream
MPP = 0.5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def write_svs(path, size):
    """An Aperio SVS of (width, height) in whole tiles (YCbCr 4:2:2, shared tables): 256 different ones in a random order."""
    import tifffile

    picture = tissue_like(16 * TILE, 16 * TILE, seed=1, grain=4)
    places = [(y, x) for y in range(0, 16 * TILE, TILE) for x in range(0, 16 * TILE, TILE)]
    parts = [abbreviated(encode(np.ascontiguousarray(picture[y : y + TILE, x : x + TILE]), True, "422")) for y, x in places]
    width, height = size
    order = np.random.default_rng(0).integers(0, len(parts), tiles_of(size))
    text = f"Aperio Image Library v12.0\n{width}x{height} (256x256) JPEG/RGB Q=80|AppMag = 20|MPP = {MPP}"
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(
            (parts[i][1] for i in order), shape=(height, width, 3), dtype=np.uint8, tile=(TILE, TILE), compression="jpeg",
            photometric="ycbcr", subsampling=(2, 1), jpegtables=parts[0][0], description=text, metadata=None, software=False,
        )  # fmt: skip
    return path


def tiles_of(size):
    return (size[0] // TILE) * (size[1] // TILE)


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
    """What a worker of a torch data loader does: read, resize, ToTensor, Normalize, stack."""
    handle = openslide.OpenSlide(str(path))

    def one(x, y):
        picture = handle.read_region((int(x), int(y)), 0, (side, side)).convert("RGB").resize((PX, PX), Image.Resampling.BILINEAR)
        return vision.normalize(vision.to_tensor(picture), MEAN, STD)

    return lambda xy: (torch.stack([one(x, y) for x, y in xy[start : start + BATCH]]) for start in range(0, len(xy), BATCH))


def model_ours(path, side):
    """What feature extraction does: parts read into a batch of the loader, normalised by 16 into the same memory (ml.encoders.runtime)."""
    slide = Slide(path, mpp=MPP)
    assert slide.reading.how.startswith("direct"), slide.reading.why
    room = np.zeros((STRIP, PX, PX, 3), np.uint8)
    ready = model_ready(room[:BATCH], MEAN, STD)

    def read(xy):
        grid = TileGrid(xy, float(side), MPP, slide.size)
        for rows in np.array_split(np.arange(len(xy)), range(PART, len(xy), PART)):
            slide.cut(grid, rows, PX, TORCH, room[rows[0] : rows[-1] + 1])
        for start in range(0, len(xy), BATCH):
            part = room[start : min(start + BATCH, len(xy))]
            yield model_ready(part, MEAN, STD, ready[: len(part)])

    return read


def race(path, grid, side, entrants, check=lambda a, b: 0.0):
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


def row_1(path, own_side, name):
    for side, title in ((own_side, "aligned"), (PX, f"{PX} px grid")):
        grid = grid_of(path, side)
        peers = installed({"tiffslide": by_tiffslide, "fastslide": by_fastslide}, path, side, grid.xy[:2])
        taken, worst = race(path, grid, side, {"openslide": by_openslide, **peers, "ours": ours}, grey_difference)
        told = ", ".join(f"{who} {1e3 * t:.2f} ms" for who, t in taken.items())
        differ = ", ".join(f"{who} {value:g}" for who, value in worst.items() if who != "openslide")
        print(f"  row 1, {title}, {len(grid)} tiles: {told} per tile; largest pixel difference from openslide: {differ}")
        assert worst["ours"] == 0
        for who in ("openslide", *peers):
            first = who == "openslide"
            equality = "pixel difference 0" if first else f"pixel difference from openslide: ours 0, {who} {worst[who]:g}"
            aim = ">= 5x" if first and codec(path) == "JPEG" else "-"
            row(f"{codec(path)} tile -> RGB, {title} ({name})", f"{who} read_region", taken[who], taken["ours"], aim, equality)


def row_2(path, side, name):
    grid = grid_of(path, side)
    pairs = zip(model_ours(path, side)(grid.xy[:STRIP]), model_openslide(path, side)(grid.xy[:STRIP]), strict=True)
    worst = max(denormalised_difference(a, b) for a, b in pairs)
    taken, _ = race(path, grid, side, {"openslide": lambda *a: drained(model_openslide(*a)), "ours": lambda *a: drained(model_ours(*a))})
    beside, theirs, own = "openslide + PIL + torchvision", taken["openslide"], taken["ours"]
    print(f"  row 2, {side} px -> {PX} px float32, {len(grid)} tiles: {beside} {1e3 * theirs:.2f} ms, ours {1e3 * own:.2f} ms per tile")
    assert worst <= 2.01
    aim = ">= 8x" if codec(path) == "JPEG" else "-"
    row(
        f"{codec(path)} tile of {side} px -> model-ready batch of {PX} px ({name})",
        beside,
        theirs,
        own,
        aim,
        f"at most {worst:.0f} grey levels from PIL",
    )


def drained(read):
    """Batches are used up one by one, as a model does it."""
    return lambda xy: deque(read(xy), maxlen=0)


def row(path, beside, theirs, own, aim, equality):
    table_row(path, beside, f"{1e3 * theirs:.2f} ms", f"{1e3 * own:.2f} ms", f"{theirs / own:.1f}x", aim, equality)


def codec(path):
    with Slide(path, mpp=MPP) as slide:
        return slide.reading.how.removeprefix("direct ")


def floor(path):
    """What decoding, resizing and normalising take when nothing lies around them, ms per tile, in the processor's cache."""
    with Slide(path, mpp=MPP) as slide:
        assert slide.reading.how == "direct JPEG"
    levels, _ = tiled_levels(path, (slide.size,))
    data, level = path.read_bytes(), levels[0]
    places = list(zip(level.offsets[:STRIP].tolist(), level.counts[:STRIP].tolist()))
    streams = [whole_jpeg(data[offset : offset + count], level.tables, level.rgb) for offset, count in places]
    tiles, small = np.zeros((BATCH, TILE, TILE, 3), np.uint8), np.zeros((BATCH, PX, PX, 3), np.uint8)
    ready, rounds = model_ready(small, MEAN, STD), range(STRIP // BATCH)
    works = {
        "decoding": lambda: [
            simplejpeg.decode_jpeg(stream, "RGB", fastdct=False, fastupsample=False, buffer=tiles[0]) for stream in streams
        ],
        "resizing": lambda: [resize_tiles(tiles, float(TILE), small, TORCH) for _ in rounds],
        "normalising": lambda: [model_ready(small, MEAN, STD, ready) for _ in rounds],
    }
    told = []
    for what, work in works.items():
        best = np.inf
        for _ in range(5):
            start = time.process_time()
            work()
            best = min(best, time.process_time() - start)
        told.append(f"{what} {1e3 * best / STRIP:.3f} ms")
    print(f"  floor: {', '.join(told)} per tile")


def stream(path, side):
    grid = grid_of(path, side)
    told = []
    for workers in (1, 2):
        best = np.inf
        for _ in range(REPEATS):
            start = time.perf_counter()
            seen = sum(len(batch.tiles) for batch in tile_batches([TileSource(path, grid, MPP)] * SLIDES, PX, threads=workers))
            best = min(best, time.perf_counter() - start)
            assert seen == len(grid) * SLIDES
        told.append(f"{workers} thread{'s' * (workers > 1)} {1e3 * best / seen:.2f} ms")
    print(f"  tile_batches, {side} px -> {PX} px: {', '.join(told)} per tile (wall time) on {len(os.sched_getaffinity(0))} cores")


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for size in (SQUARE, WIDE):
            path = write_svs(Path(folder) / f"{size[0]}.svs", size)
            kilobytes = path.stat().st_size / tiles_of(size) / 1e3
            print(f"generated SVS, {size[0]} x {size[1]} px, JPEG tiles of {TILE} px (YCbCr 4:2:2), {kilobytes:.1f} kB per tile")
            name = f"generated SVS, {size[0]} px wide"
            row_1(path, TILE, name)
            for side in (TILE, 2 * PX):
                row_2(path, side, name)
        floor(path)
        stream(path, TILE)
    data = os.environ.get("TISSUEBOARD_DATA")
    for name, side in (("cmu-1-small-region.svs", 240), ("tcga-cr-7395-01a-01-ts1.svs", 256)) if data else ():
        path = Path(data) / "wsi" / name
        with Slide(path, mpp=MPP) as slide:
            print(f"{name}, real, {slide.size[0]} x {slide.size[1]} px, {slide.reading.how}")
        row_1(path, side, name)
        row_2(path, side, name)


if __name__ == "__main__":
    main()
