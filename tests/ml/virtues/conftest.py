"""A small cohort of counts whose markers go together, and a network that learns them in seconds."""

import numpy as np
import pytest
from scipy import ndimage

from ml.types import MultiplexImage
from ml.virtues.config import VirtuesConfig
from ml.virtues.markers import MarkerBank
from ml.virtues.pretrain_config import VirtuesPretrainConfig

PROTEINS = ("P07766", "P01730", "P01732", "P34810", "P08670", "P02533")
NAMES = ("CD3", "CD4", "CD8", "CD68", "VIM", "CK")


@pytest.fixture(scope="session")
def bank():
    rng = np.random.default_rng(7)
    return MarkerBank({p: rng.standard_normal(16) for p in PROTEINS}, "random, for tests")


def counts(seed, channels=range(6), size=48):
    """Two patterns of tissue; even channels count the one, odd channels the other, so that a partner tells a marker."""
    rng = np.random.default_rng(seed)
    levels = [ndimage.gaussian_filter(rng.standard_normal((size, size)), 6) for _ in range(2)]
    levels = [level / level.std() for level in levels]
    return MultiplexImage(
        np.stack([rng.poisson(np.exp(2.5 + levels[c % 2])) for c in channels]).astype(np.float32),
        tuple(NAMES[c] for c in channels),
        1.0,
        tissue=np.ones((size, size), bool),
    )


@pytest.fixture(scope="session")
def cohort():
    """(images, proteins, patients, data sets): ten patients of two data sets; the second lacks two markers."""
    panels = [range(6)] * 5 + [range(4)] * 5
    images = [counts(i, panel) for i, panel in enumerate(panels)]
    proteins = [tuple(PROTEINS[c] for c in panel) for panel in panels]
    return images, proteins, [f"p{i}" for i in range(10)], ["one"] * 5 + ["two"] * 5


@pytest.fixture(scope="session")
def tiny():
    return VirtuesPretrainConfig(
        network=VirtuesConfig(
            model_dim=32,
            feedforward_dim=64,
            encoder_pattern="hv",
            decoder_pattern="f",
            num_encoder_heads=2,
            num_decoder_heads=2,
            marker_embedding_dim=16,
        ),
        crop=32,
        subimage=40,
        subimages=6,
        epochs=40,
        batch=8,
        lr=1e-2,
        checkpoint_every=2,
    )


@pytest.fixture(scope="session")
def trained(cohort, tiny, bank):
    from ml.virtues.train import fit

    return fit(*cohort, tiny, bank)


@pytest.fixture(scope="session")
def draw_counts():
    return counts
