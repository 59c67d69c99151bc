"""A process that makes features of one slide and is killed at any moment: `python killed_extraction.py SLIDE TARGET BLOCKS LOG`.

Every call of the encoder is a line in LOG with how many tiles it was given, so that work which was done twice can be counted.
"""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATHS = [str(ROOT), str(ROOT / "tests" / "support")]


@dataclass(frozen=True)
class Killed:
    """kills: how many processes died. finished: tiles that were finished at each death. redone: tiles computed more than once in all."""

    kills: int
    finished: list[int]
    redone: int
    rows_per_block: int


def kill_at_random(slide: Path, target: Path, n: int, kills: int, seed: int) -> Killed:
    """Starts the work again and again, kill -9 in the middle `kills` times, and lets the last one finish."""
    chance, blocks, log = random.Random(seed), target.with_suffix(".blocks"), target.with_suffix(".log")
    log.touch()
    moments = sorted(chance.uniform(0.03, 0.97) for _ in range(kills))
    finished = []
    for moment in moments:
        child = _start(slide, target, blocks, log)
        while _given(log) - _probed(log) < moment * n and child.poll() is None:
            time.sleep(0.0005)
        # Not at the edge of a block only: some of the next one's time goes by.
        time.sleep(chance.uniform(0, 0.02))
        child.send_signal(signal.SIGKILL)
        child.wait()
        if target.exists():
            raise AssertionError("It was finished before it could be killed: the moment came too late.")
        finished.append(_finished(blocks, n))
    last = _start(slide, target, blocks, log)
    if last.wait() != 0:
        raise AssertionError(f"The last attempt ended with {last.returncode}.")
    from ml.slides.blocks import rows_per_block

    return Killed(kills, finished, _given(log) - _probed(log) - n, rows_per_block(n))


def _start(slide: Path, target: Path, blocks: Path, log: Path) -> subprocess.Popen:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(PATHS), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, __file__, *map(str, (slide, target, blocks, log))], env=env)


def _lines(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split("\n")[:-1]]


def _given(log: Path) -> int:
    return sum(abs(size) for size in _lines(log))


def _probed(log: Path) -> int:
    """Tiles of the probe that measures the encoder's speed: white ones, no work on the slide."""
    return sum(-size for size in _lines(log) if size < 0)


def _finished(blocks: Path, n: int) -> int:
    """Tiles in the blocks on the disk, by the files' names alone."""
    from ml.slides.blocks import rows_per_block

    rows = rows_per_block(n)
    return sum(min(rows, n - int(path.stem)) for path in blocks.glob("[0-9]*.block"))


def main(slide: str, target: str, blocks: str, log: str) -> None:
    import numpy as np
    from fine_slides import MPP, TILE_PX, MeanColour

    from ml.encoders.extract import extract
    from ml.slides.loader import TileSource
    from ml.slides.reader import open_slide
    from ml.types import TileGrid

    class Counting(MeanColour):
        def __call__(self, tiles):
            white = bool((tiles == 255).all())
            with open(log, "a") as file:
                file.write(f"{-len(tiles) if white else len(tiles)}\n")
            return super().__call__(tiles)

    with open_slide(slide) as opened:
        size = opened.size
    across, down = (np.arange(side // TILE_PX) * TILE_PX for side in size)
    xy = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2).astype(np.int64)
    extract(TileSource(Path(slide), TileGrid(xy, float(TILE_PX), MPP, size)), Counting(), target, blocks)


if __name__ == "__main__":
    main(*sys.argv[1:])
