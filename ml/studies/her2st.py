"""Sections of her2st (Andersson et al. 2021): spots of spatial transcriptomics with the H&E under them, from the originals.

Spots are joined to counts by their place on the array, and pixels are those of the full-size picture, as the data's own notes say.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

PITCH_UM = 200.0  # between neighbouring spots; their diameter is 100 um
TILE_UM, TILE_PX = 112.0, 112
LEAST_COUNTS = 500
BLOCK_SPOTS = 4  # side of a block of spots, in spots: 800 um
GLASS = 240


@dataclass(frozen=True)
class Picture:
    """pattern: where it lies below her2st/, a glob with one match. mpp: um per px of the full size, as HEST v1.1 lists it. full_width: px.
    black_outside: what is no tissue was painted black, and an annotated thumbnail pasted into a corner."""

    pattern: str
    mpp: float
    full_width: int
    black_outside: bool = False


PICTURES: dict[str, Picture] = {
    "C2": Picture("ST-imgs/C/C2/*.jpg", 0.6961, 9274),
    "C3": Picture("ST-imgs/C/C3/*.jpg", 0.6691, 9270),
    "C4": Picture("ST-imgs/C/C4/*.jpg", 0.6901, 9278),
    "A1": Picture("app-imgs/A1_HE_image_dark.png", 0.9206, 6954, black_outside=True),
}


@dataclass(frozen=True)
class Section:
    """n spots of one section.

    patient: the section's letter. spots: n names, "<x>x<y>". grid: (n, 2) float64, corrected place on the array in spots. pixels: (n, 2)
    float64, px of the full-size picture. expression: (n, genes) float32, log(1 + counts per 10,000 of all genes). tiles: (n, 112, 112, 3)
    uint8 RGB, 112 um wide around the spot. mpp: um per px of the picture that the tiles were cut from. blocks: (n,) int64, which block of
    4 x 4 spots. left_out: reason -> number of spots.
    """

    name: str
    patient: str
    spots: tuple[str, ...]
    grid: NDArray[np.float64]
    pixels: NDArray[np.float64]
    expression: NDArray[np.float32]
    genes: tuple[str, ...]
    tiles: NDArray[np.uint8]
    mpp: float
    blocks: NDArray[np.int64]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.spots)


def her2st_genes(data: Path) -> tuple[str, ...]:
    """The 785 target genes of the published comparisons (HisToGene and those after it)."""
    return tuple(str(g) for g in np.load(data / "genesets" / "her_hvg_cut_1000.npy", allow_pickle=False))


def load_section(data: Path, name: str, genes: tuple[str, ...] | None = None, at_mpp: float | None = None) -> Section:
    """Section `name` (C2, C3, C4: full-size picture; A1: a copy 2,000 px wide, 3.2 um per px) below the data folder.

    Spots whose counts are below 500 are left out, and spots without counts. at_mpp: shrinks the picture to this resolution first, so that
    sections are equally blurred. Raises KeyError for another section or an unknown gene, FileNotFoundError for a missing file.
    """
    if name not in PICTURES:
        raise KeyError(f"There is no picture of section {name!r}; there are {', '.join(PICTURES)}.")
    folder, genes = data / "her2st", genes or her2st_genes(data)
    counts = pd.read_csv(folder / "ST-cnts" / f"{name}.tsv.gz", sep="\t", index_col=0)
    absent = [g for g in genes if g not in counts.columns]
    if absent:
        raise KeyError(f"Section {name} has no counts of {len(absent)} genes, e.g. {absent[0]}.")
    spots = pd.read_csv(folder / "ST-spotfiles" / f"{name}_selection.tsv", sep="\t")
    spots.index = [f"{x}x{y}" for x, y in zip(spots["x"], spots["y"])]
    both = [s for s in spots.index if s in counts.index]
    total = counts.loc[both].sum(axis=1)
    kept = [s for s in both if total[s] >= LEAST_COUNTS]
    share = counts.loc[kept, list(genes)].to_numpy() / total.loc[kept].to_numpy()[:, None]
    grid, pixels = (spots.loc[kept, columns].to_numpy(float) for columns in (["new_x", "new_y"], ["pixel_x", "pixel_y"]))
    tiles, mpp = _tiles(folder, PICTURES[name], pixels, at_mpp)
    return Section(
        name=name,
        patient=name[0],
        spots=tuple(kept),
        grid=grid,
        pixels=pixels,
        expression=np.log1p(1e4 * share).astype(np.float32),
        genes=genes,
        tiles=tiles,
        mpp=mpp,
        blocks=_blocks(grid),
        left_out={"no counts": len(spots) - len(both), f"under {LEAST_COUNTS} counts": len(both) - len(kept)},
    )


def _blocks(grid: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) number of the square of 4 x 4 spots that each spot lies in."""
    corner = np.floor((grid - grid.min(axis=0)) / BLOCK_SPOTS).astype(np.int64)
    return np.unique(corner, axis=0, return_inverse=True)[1].reshape(-1)


def _tiles(folder: Path, picture: Picture, pixels: NDArray[Any], at_mpp: float | None) -> tuple[NDArray[np.uint8], float]:
    """(n, 112, 112, 3) uint8 around the spots, and um per px of what they were cut from."""
    found = sorted(folder.glob(picture.pattern))
    if not found:
        raise FileNotFoundError(f"There is no picture {picture.pattern} below her2st.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # 92 million pixels, and known
        image = Image.open(found[0]).convert("RGB")
    scale = image.width / picture.full_width
    if picture.black_outside:
        image = _lightened(image)
    mpp = picture.mpp / scale
    if at_mpp is not None and at_mpp > 1.01 * mpp:
        smaller = mpp / at_mpp
        image = image.resize((round(image.width * smaller), round(image.height * smaller)), Image.Resampling.BOX)
        scale, mpp = image.width / picture.full_width, picture.mpp * picture.full_width / image.width
    half = TILE_UM / mpp / 2
    tiles = np.empty((len(pixels), TILE_PX, TILE_PX, 3), np.uint8)
    for i, (x, y) in enumerate(pixels * scale):
        box = (x - half, y - half, x + half, y + half)
        if min(box[:2]) < 0 or box[2] > image.width or box[3] > image.height:
            raise ValueError(f"The tile around pixel {x:.0f}, {y:.0f} leaves the picture {found[0].name}: scale and spots do not fit.")
        tiles[i] = np.asarray(image.resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC, box=box))
    return tiles, mpp


def _lightened(image: Image.Image) -> Image.Image:
    """The picture with what was painted black made as light as glass, so that tiles at the tissue's edge look as in a plain scan."""
    pixels = np.array(image)
    pixels[pixels.max(axis=2) < 8] = GLASS
    return Image.fromarray(pixels)
