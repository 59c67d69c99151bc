"""Slides -> feature bags with one encoder: resumable, in bounded memory, with tiles read ahead while the encoder works.

    from ml.encoders.runtime import load_encoder
    from ml.encoders.extract import extract_slides
    for found in extract_slides(paths, load_encoder("he-descriptors"), "features/"):
        print(found)

or `python -m ml.encoders.extract --encoder he-descriptors --out features/ SLIDE...`. Running it again does only what is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ml.encoders.spec import EncoderError
from ml.slides.bag_writer import bag_writer
from ml.slides.blocks import free_bytes
from ml.slides.estimate import FULL, bag_bytes, check_disk, disk_full, working_bytes
from ml.slides.features import check_bag
from ml.slides.findings import FindingCode, SlideError
from ml.slides.grid import tile_grid
from ml.slides.loader import TileSource
from ml.slides.reader import open_slide
from ml.slides.tile_run import SlideWork, TilesDone, bad_limit, run_one, run_tiles
from ml.slides.tissue import tissue_mask

FORMAT = "tissueboard-features/1"  # raised whenever the same tiles would give other numbers
EDGE = 1 << 20  # bytes at both ends of a slide file that stand for the whole when it is asked whether it is still the same


class TileEncoder(Protocol):
    """What is needed of an encoder (ml.encoders.runtime.Encoder): (b, input_px, input_px, 3) uint8 RGB -> (b, dim) float32."""

    device: str
    precision: Any
    weights_sha256: str
    resizing: str

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def input_px(self) -> int: ...
    @property
    def tile_um(self) -> float: ...
    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Extraction:
    """A finished bag. n_tiles: vectors in it. skipped: why tiles were left out -> how many. tile_um: side of a tile in um.

    seconds: of work in all attempts; waited_seconds: of these for tiles. done_before: tiles that an earlier attempt had finished (all of
    them where the bag was there already). reading: how the slide was read ("direct JPEG", "OpenSlide" ...).
    """

    name: str
    target: Path
    encoder: str
    n_tiles: int
    dim: int
    tile_um: float
    seconds: float = 0.0
    waited_seconds: float = 0.0
    done_before: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    reading: str = ""

    @property
    def n_skipped(self) -> int:
        return sum(self.skipped.values())

    @property
    def tiles_per_second(self) -> float | None:
        """Read and encoded per second of work; None where nothing was measured."""
        return (self.n_tiles + self.n_skipped) / self.seconds if self.seconds > 0 else None


@dataclass(frozen=True)
class Failed:
    """A slide of which there is no bag, and why."""

    name: str
    error: SlideError


def extract(
    source: TileSource,
    encoder: TileEncoder,
    target: str | Path,
    blocks: str | Path,
    name: str = "",
    inputs: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], object] = lambda name, done, n: None,
    limit: Callable[[int], int] = bad_limit,
) -> Extraction:
    """The bag of one slide. blocks: a folder that survives a crash; calling again with it goes on. It stays: whoever called removes it when
    the bag is where it belongs, so that a kill before that costs no tile.

    inputs: what makes the slide another (its checksum), and the code's version. facts: attributes of the file. progress: name, tiles done,
    tiles. Errors: SlideError TOO_MANY_BAD_TILES, DISK_FULL, NO_TISSUE, BLOCK_DAMAGED, those of the reader; EncoderError.
    """
    work = SlideWork(name, source, Path(blocks), dict(inputs or {}))
    done = run_one(
        work, _compute(encoder), encoder.input_px, encoder_inputs(encoder), progress=progress, limit=limit, engine=encoder.resizing
    )
    return finish(done, encoder, Path(target), facts)


def extract_slides(
    paths: Iterable[str | Path],
    encoder: TileEncoder,
    out_folder: str | Path,
    mpp: float | None = None,
    tile_um: float | None = None,
    step_um: float | None = None,
    min_tissue: float = 0.3,
    progress: Callable[[str, int, int], object] = lambda name, done, n: None,
    limit: Callable[[int], int] = bad_limit,
) -> Iterator[Extraction | Failed]:
    """A bag `<name of the slide>.h5` in the folder for each slide, as soon as it is finished; a slide that fails does not stop the rest.

    Bags that are there, whole and made of the same file with the same settings are not made again. mpp: um per px0, for files that do not
    state it. tile_um, step_um: um, default the encoder's tile, side by side. Raises SlideError DISK_FULL, EncoderError.
    """
    tiling = _Tiling(mpp, tile_um or encoder.tile_um, step_um or tile_um or encoder.tile_um, min_tissue)
    out, todo = Path(out_folder), []
    recipes: dict[str, str] = {}
    for path in map(Path, paths):
        name = path.stem
        try:
            recipe = _recipe(path, encoder, tiling)
            if name in recipes:
                raise SlideError(
                    FindingCode.SLIDE_NAMED_TWICE,
                    f"Two of the slides are named {name}.",
                    "Their bags need folders of their own: run them apart.",
                )
        except SlideError as error:
            yield Failed(name, error)
            continue
        recipes[name] = recipe
        there = _there(name, out / f"{name}.h5", recipe, tiling.tile_um)
        if there is not None:
            shutil.rmtree(out / ".blocks" / name, ignore_errors=True)  # where the last run ended just after it
            yield there
        else:
            todo.append(SlideWork(name, partial(_source, path, encoder, tiling, out), out / ".blocks" / name, {"recipe": recipe}))
    for found in run_tiles(todo, _compute(encoder), encoder.input_px, encoder_inputs(encoder), progress, limit, encoder.resizing):
        if isinstance(found, TilesDone):
            name = found.work.name
            finished = finish(found, encoder, out / f"{name}.h5", {"recipe": recipes[name]})
            found.folder.remove()
            yield finished
        else:
            yield Failed(found[0].name, found[1])
    with suppress(OSError):
        (out / ".blocks").rmdir()


@dataclass(frozen=True)
class _Tiling:
    """How slides are cut: um per px0 where files do not state it, side and step of a tile in um, least share of tissue."""

    mpp: float | None
    tile_um: float
    step_um: float
    min_tissue: float


def _recipe(path: Path, encoder: TileEncoder, tiling: _Tiling) -> str:
    """What a bag is made of, as a checksum that does not need the slide to be opened."""
    if not path.is_file():
        raise SlideError(FindingCode.FILE_MISSING, f"There is no file {path.name}.", "Check the path; nothing was read.")
    facts = [slide_identity(path), encoder_inputs(encoder), asdict(tiling)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _there(name: str, target: Path, recipe: str, tile_um: float) -> Extraction | None:
    """The bag that is there, if it is whole and of this recipe; what is damaged or of another is made again."""
    try:
        facts = check_bag(target)
    except SlideError:
        return None
    if facts.attrs.get("recipe") != recipe:
        return None
    reasons = dict(Counter(facts.skipped.values()))
    return Extraction(name, target, facts.encoder, facts.n, facts.dim, tile_um, done_before=facts.n + len(facts.skipped), skipped=reasons)


def _source(path: Path, encoder: TileEncoder, tiling: _Tiling, out: Path) -> TileSource:
    """Opens a slide and lays its grid, when its turn comes. SlideError also where the disk will not hold its features."""
    with open_slide(path, mpp=tiling.mpp) as slide:
        slide.check_mpp(tiling.tile_um / encoder.input_px)  # before the mask, which of a slide of 1 mm per px would be gigapixels
        grid = tile_grid(tissue_mask(slide), slide, tiling.tile_um, tiling.step_um, tiling.min_tissue)
    check_disk(out, working_bytes(len(grid), encoder.dim))
    return TileSource(path, grid, tiling.mpp)


def finish(done: TilesDone, encoder: TileEncoder, target: Path, facts: Mapping[str, Any] | None = None) -> Extraction:
    """Streams the blocks of a slide into its file, one block in memory at a time, and checks the file; the blocks stay."""
    kept, grid = done.kept, done.grid
    left = replace(grid, xy=grid.xy[kept], tissue=None if grid.tissue is None else grid.tissue[kept])
    skipped = [(row, int(grid.xy[row, 0]), int(grid.xy[row, 1]), reason) for row, reason in done.folder.bad.items()]
    attrs = {
        "name": done.work.name,
        "patch_size": encoder.input_px,
        "target_magnification": round(10.0 * encoder.input_px / grid.tile_um, 2),
    }
    told = {"format": FORMAT, **encoder_inputs(encoder), **dict(facts or {})}
    try:
        with bag_writer(target, left, encoder.dim, encoder.name, attrs, skipped, told) as writer:
            for block in done.folder:
                writer.append(block.arrays["features"][block.readable])
    except OSError as error:
        size = bag_bytes(len(left), encoder.dim)
        if error.errno in FULL or free_bytes(target.parent) < size:
            raise disk_full(target.parent, size) from error
        raise
    seconds, waited = done.folder.seconds
    reasons = dict(Counter(reason for *_, reason in skipped))
    return Extraction(
        done.work.name,
        target,
        encoder.name,
        len(left),
        encoder.dim,
        grid.tile_um,
        seconds,
        waited,
        done.done_before,
        reasons,
        done.reading,
    )


def encoder_inputs(encoder: TileEncoder) -> dict[str, str]:
    """What makes the vectors others: the encoder, its weights, where and how it computes, how its tiles are resized."""
    return {
        "encoder": encoder.name,
        "weights": encoder.weights_sha256,
        "precision": str(encoder.precision),
        "device": str(encoder.device).split(":")[0],
        "resizing": encoder.resizing,
        "version": FORMAT,
    }


def slide_identity(path: str | Path) -> str:
    """Tells whether a slide file is still the same without reading gigabytes: SHA-256 of its size and of the megabyte at each end."""
    path = Path(path)
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(EDGE))
        file.seek(max(0, size - EDGE))
        digest.update(file.read(EDGE))
    return digest.hexdigest()


def _compute(encoder: TileEncoder) -> Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]:
    return lambda tiles: {"features": encoder(tiles)}


def main(arguments: list[str] | None = None) -> int:
    """The command line; 1 if a slide failed."""
    from ml.encoders.runtime import load_encoder

    parser = argparse.ArgumentParser(prog="python -m ml.encoders.extract", description="Feature bags (HDF5) of slides; run again to go on.")
    parser.add_argument("slides", nargs="+", type=Path, help="Slide files.")
    parser.add_argument("--encoder", required=True, help="Name in the catalogue, e.g. he-descriptors.")
    parser.add_argument("--weights", type=Path, help="The encoder's weight file.")
    parser.add_argument("--out", required=True, type=Path, help="Folder for the bags.")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1.")
    parser.add_argument("--mpp", type=float, help="um per pixel of level 0, for files that do not state it.")
    parser.add_argument("--tile-um", type=float, help="Side of a tile in um (default: the encoder's).")
    parser.add_argument("--min-tissue", type=float, default=0.3, help="Least share of tissue in a tile, 0 to 1 (default: 0.3).")
    given = parser.parse_args(arguments)
    try:
        encoder = load_encoder(given.encoder, given.weights, given.device)
        slides = extract_slides(given.slides, encoder, given.out, given.mpp, given.tile_um, None, given.min_tissue)
        failed = [found for found in slides if _say(found)]
        return 1 if failed else 0
    except (EncoderError, SlideError) as error:
        print(f"{error.sentence} {error.hint}", file=sys.stderr)
        return 1


def _say(found: Extraction | Failed) -> bool:
    """One line about a slide; whether it failed."""
    if isinstance(found, Failed):
        print(f"{found.name}: {found.error.code}: {found.error.sentence} {found.error.hint}", flush=True)
        return True
    speed = f"{found.tiles_per_second:.0f} tiles/s" if found.tiles_per_second else "was there"
    print(f"{found.name}: {found.n_tiles} tiles, {found.n_skipped} skipped, {speed}: {found.target.name}", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
