"""Small slides written on the spot: a drawn tissue on glass, as generic pyramid and as Aperio SVS with a label and a patient's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

WIDTH, HEIGHT, MPP = 1400, 1100, 0.5
PATIENT = "JANE^ROSENTHAL"


def draw(width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: a pink ellipse with purple dots on bright glass."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    inside = ((x - width / 2) / (width * 0.35)) ** 2 + ((y - height / 2) / (height * 0.35)) ** 2 < 1
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = (240, 238, 241)
    picture[inside] = (220, 150, 190)
    picture[inside & (rng.random((height, width)) < 0.02)] = (90, 50, 130)
    return picture


def write_pyramid(
    path: Path, picture: NDArray[np.uint8], mpp: float | None = MPP, factors: tuple[int, ...] = (1, 2, 4), **options: Any
) -> Path:
    """A generic tiled pyramidal TIFF."""
    with tifffile.TiffWriter(path) as writer:
        for i, factor in enumerate(factors):
            small = np.ascontiguousarray(picture[::factor, ::factor])
            resolution = {} if mpp is None else {"resolution": (1e4 / (mpp * factor),) * 2, "resolutionunit": "CENTIMETER"}
            writer.write(
                small,
                tile=(256, 256),
                photometric="rgb",
                subfiletype=0 if i == 0 else 1,
                metadata=None,
                **resolution,
                **({"compression": "deflate"} | options),
            )
    return path


def write_svs(path: Path, picture: NDArray[np.uint8], mpp: float | None = MPP) -> Path:
    """An Aperio SVS with thumbnail, label and macro, and the patient's name in every text field and inside the JPEG of a tile."""
    height, width = picture.shape[:2]
    size = "" if mpp is None else f"|AppMag = 20|MPP = {mpp}"
    text = f"Aperio Image Library v12.0\n{width}x{height} (256x256) JPEG/RGB Q=85{size}|Filename = {PATIENT}|Date = 01/02/24"
    jpeg: dict[str, Any] = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 85}, "metadata": None}
    artist = (315, 2, 0, PATIENT, True)
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            picture, tile=(256, 256), description=text, datetime="2024:02:01 10:00:00", extratags=[artist], software=PATIENT, **jpeg
        )
        writer.write(np.ascontiguousarray(picture[::8, ::8]), description=text, rowsperstrip=16, **jpeg)
        label = np.full((160, 160, 3), 30, np.uint8)
        writer.write(
            label,
            photometric="rgb",
            compression="lzw",
            description=f"Aperio Image Library\nlabel 160x160 {PATIENT}",
            subfiletype=1,
            metadata=None,
        )
        writer.write(label[:80], description="Aperio Image Library\nmacro 160x80", subfiletype=9, rowsperstrip=16, **jpeg)
    return path


@pytest.fixture(scope="session")
def picture() -> NDArray[np.uint8]:
    """The drawn tissue, (1100, 1400, 3) uint8."""
    return draw()


@pytest.fixture(scope="session")
def pyramid(tmp_path_factory: pytest.TempPathFactory, picture: NDArray[np.uint8]) -> Path:
    """Generic pyramid, lossless, 0.5 um per px0, levels 1, 2, 4."""
    return write_pyramid(tmp_path_factory.mktemp("slides") / "pyramid.tif", picture)


@pytest.fixture(scope="session")
def svs(tmp_path_factory: pytest.TempPathFactory, picture: NDArray[np.uint8]) -> Path:
    """Aperio SVS that carries the patient's name in its header and a label picture."""
    return write_svs(tmp_path_factory.mktemp("slides") / f"{PATIENT}.svs", picture)


@pytest.fixture(scope="session")
def patient() -> str:
    """The name planted in `svs`."""
    return PATIENT


@pytest.fixture(scope="session")
def make_pyramid() -> Callable[..., Path]:
    """write_pyramid(path, picture, mpp, factors, **tifffile options)."""
    return write_pyramid


@pytest.fixture(scope="session")
def make_svs() -> Callable[..., Path]:
    """write_svs(path, picture, mpp)."""
    return write_svs


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., NDArray[np.uint8]]:
    """draw(width, height, seed)."""
    return draw
