"""A toy tissue whose truth is known, and a small HEX fitted on it once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

MARKERS = ("nuclei", "eosin", "free matrix")


@dataclass
class ToyTiles:
    images: Any  # (n, 64, 64, 3) uint8
    labels: Any  # (n, 3) float32
    patients: list[str]
    slides: list[str]


def draw_tile(rng: Any, nuclei: int, eosin: float, tint: Any) -> Any:
    """A tile with `nuclei` dark discs on a ground that is as pink as `eosin`, in the light of `tint`."""
    yy, xx = np.mgrid[:64, :64]
    tile = np.full((64, 64, 3), (235.0, 235.0, 240.0)) + eosin * np.array([0, -70, -30])
    for y, x in rng.integers(6, 58, (nuclei, 2)):
        tile[(yy - y) ** 2 + (xx - x) ** 2 < 16] = (90, 60, 150)
    return np.clip(tile + tint + rng.normal(0, 6, tile.shape), 0, 255).astype(np.uint8)


def toy_tiles(patients: int, per_patient: int, seed: int) -> ToyTiles:
    rng = np.random.default_rng(seed)
    images, labels, ids = [], [], []
    for p in range(patients):
        tint = rng.normal(0, 8, 3)
        for _ in range(per_patient):
            nuclei, eosin = int(rng.integers(0, 12)), float(rng.random())
            images.append(draw_tile(rng, nuclei, eosin, tint))
            labels.append([nuclei / 12, eosin, eosin * (1 - nuclei / 12)])
            ids.append(f"P{p}")
    return ToyTiles(np.array(images), np.array(labels, np.float32), ids, [f"slide of {p}" for p in ids])


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small steps on cores that others use too: a second thread would mostly wait."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def toy():
    return toy_tiles(patients=6, per_patient=48, seed=1)


@pytest.fixture(scope="session")
def toy_config():
    from ml.hex.config import HexFitConfig

    return HexFitConfig(markers=MARKERS, epochs=8, batch=32, folds=2, seed=3)


@pytest.fixture(scope="session")
def toy_fit(toy, toy_config):
    from ml.hex.train import fit

    return fit(toy.images, toy.labels, toy.patients, toy.slides, MARKERS, toy_config)


@pytest.fixture(scope="session")
def saved(toy_fit, tmp_path_factory):
    """The fitted HEX on disk; the salt is "salt"."""
    from ml.hex.checkpoint import save_fit

    folder = tmp_path_factory.mktemp("hex") / "model"
    save_fit(toy_fit, folder, salt="salt", code_version="test", label="trained on simulated tissue", inputs={"toy": "0" * 64})
    return folder
