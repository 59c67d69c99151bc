"""A small HEX that was fitted for a moment: its numbers mean nothing, but they are its own. In the store of the test run, fitted once."""

import os
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tissueboard.store import store

MARKERS = ("CD8", "CD68")
KEY = "tests/hex"


@lru_cache(maxsize=1)
def _fitted() -> Path:
    import torch

    from ml.hex.checkpoint import save_fit
    from ml.hex.config import HexFitConfig
    from ml.hex.train import fit

    torch.set_num_threads(1)
    images, patients = _tiles()
    labels = np.random.default_rng(0).random((len(images), 2)).astype(np.float32)
    found = fit(images, labels, patients, patients, MARKERS, HexFitConfig(markers=MARKERS, epochs=1, batch=32, folds=2, seed=3))
    folder = Path(os.environ["TISSUEBOARD_TEST_HOME"]) / "momentary hex"
    save_fit(found, folder, salt="salt", code_version="test", label="untrained", inputs={"toy": "0" * 64})
    return folder


def _tiles() -> tuple[Any, list[str]]:
    """Tiles from the middle of the four small slides, so that these lie in the model's range and their rims do not."""
    from small_tissue import MPP, SIDE, TILE_PX0, small_world

    from ml.slides.reader import open_slide
    from ml.types import TileGrid

    corners = np.arange(int(0.25 * SIDE), int(0.75 * SIDE - TILE_PX0), 56)
    grid = TileGrid(np.array([(x, y) for y in corners for x in corners], np.int64), TILE_PX0, MPP, (SIDE, SIDE))
    images = []
    for tissue in small_world().tissues:
        with open_slide(store.path(tissue.slide_key), MPP) as slide:
            images.append(slide.tile_array(grid, 112, "torch"))
    return np.concatenate(images), [f"P{i}" for i in range(len(images)) for _ in range(len(grid))]


def momentary_version(**metrics: Any) -> Any:
    """A ModelVersion of these weights, with such metrics."""
    from tissueboard.model_registry.models import ModelVersion

    temp = store.new_temp()
    shutil.copytree(_fitted(), temp)
    sha = store.save(temp, KEY)
    common = {"config": {}, "licence": "Apache-2.0", "provenance": {"code_version": "test"}, "panel": list(MARKERS), "pitch_um": 56.0}
    return ModelVersion.objects.create(family="hex", name="for a moment", label="untrained", key=KEY, sha256=sha, metrics=metrics, **common)


def calibration(patients: int) -> Any:
    """Intervals for these markers, of so many patients with ten tiles each."""
    from ml.hex.conformal import calibrate

    rng = np.random.default_rng(0)
    labels = rng.random((10 * patients, 2))
    ids = np.repeat([f"P{i}" for i in range(patients)], 10).tolist()
    return calibrate(labels + rng.normal(0, [0.1, 0.3], labels.shape), labels, ids, MARKERS)
