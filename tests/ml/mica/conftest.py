"""Toy patients whose hazard depends on an interaction alone: neither the H&E bag nor the CODEX bag says anything by itself."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from ml.types import Outcomes

MARKERS = ("CD8", "CD31", "PanCK")


@dataclass
class ToyPatients:
    bags: list[Any]
    outcomes: Outcomes
    hazard: Any  # (n,) the true log hazard


def draw_patients(n: int, seed: int) -> ToyPatients:
    """log hazard 1.6 where the sign of the tiles' first feature is that of the tokens' first feature, else -1.6. Days; one slide each."""
    from ml.mica.data import MicaBag

    rng = np.random.default_rng(seed)
    he, codex = rng.integers(0, 2, n) * 2.0 - 1, rng.integers(0, 2, n) * 2.0 - 1
    hazard = 1.6 * he * codex
    died, lost = rng.exponential(1, n) * 700 * np.exp(-hazard), rng.exponential(4000, n)
    bags = []
    for i in range(n):
        tiles, tokens = rng.normal(0, 0.5, (5 + i % 3, 6)), rng.normal(0, 0.3, (len(MARKERS), 5))
        tiles[:, 0] += 1.5 * he[i]
        tokens[:, 0] += 1.5 * codex[i]
        bags.append(MicaBag(f"P{i}", f"S{i}", tiles.astype(np.float32), tokens.astype(np.float32), MARKERS, "toy", "toy map"))
    outcomes = Outcomes(tuple(f"P{i}" for i in range(n)), np.minimum(died, lost) + 1, died <= lost, "OS")
    return ToyPatients(bags, outcomes, hazard)


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
    return draw_patients(80, seed=0)


@pytest.fixture(scope="session")
def few():
    """Enough to go through everything, too few to learn."""
    return draw_patients(24, seed=5)


@pytest.fixture(scope="session")
def toy_config():
    from ml.mica.config import MicaFitConfig

    sizes = {"width": 16, "heads": 2, "ffn": 32, "layers": 1, "he_queries": 3}
    return MicaFitConfig(**sizes, epochs=8, lr=5e-3, accumulate=4, dropout=0.0, folds=2, bootstrap=200, seed=3)


@pytest.fixture(scope="session")
def brief(toy_config):
    """One epoch, dropout on."""
    return toy_config.model_copy(update={"epochs": 1, "dropout": 0.25, "horizon_days": 200.0})


@pytest.fixture(scope="session")
def toy_fit(toy, toy_config):
    from ml.mica.train import fit

    return fit(toy.bags, toy.outcomes, toy_config)


@pytest.fixture(scope="session")
def few_fit(few, brief):
    from ml.mica.train import fit

    return fit(few.bags, few.outcomes, brief)


@pytest.fixture(scope="session")
def saved(toy_fit, tmp_path_factory):
    """The fitted MICA on disk; the salt is "salt"."""
    from ml.mica.checkpoint import save_fit

    folder = tmp_path_factory.mktemp("mica") / "model"
    save_fit(toy_fit, folder, salt="salt", code_version="test", label="trained on simulated tissue", inputs={"toy": "0" * 64})
    return folder
