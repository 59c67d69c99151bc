"""The weights of a VirTues version where the work is done, with the standards of the cohorts that it was taken into use on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.services import weights_path

from .refusing import model_refusals

if TYPE_CHECKING:
    from ml.virtues.embed_config import VirtuesEmbedConfig
    from ml.virtues.weights import VirtuesWeights

FAMILY = "virtues"
# Settings of an embedding that go with the weights: a network sees crops as it saw them in training.
CROPS = ("crop_px", "cell_stride_px", "cell_pad_px")


def load_virtues(version: ModelVersion) -> VirtuesWeights:
    """Network, bank and standards of a version. WeightsMissing; JobRefused for a folder that is not the one that was saved."""
    from ml.virtues.preprocess import Standard
    from ml.virtues.weights import load

    with model_refusals():
        found = load(weights_path(version))
    own = {name: Standard.from_json(table) for name, table in version.config.get("standards", {}).items()}
    return replace(found, standards={**found.standards, **own})


def embed_config(version: ModelVersion) -> VirtuesEmbedConfig:
    """How the version's images are cut and which niches stand for a tissue."""
    from ml.virtues.embed_config import VirtuesEmbedConfig

    return VirtuesEmbedConfig(**version.config.get("embed", {}))


def embed_settings(crop_px: int, patch_px: int) -> dict[str, int]:
    """Crops as in training; cells at the published share of a crop (stride 42 and padding 120 of 128)."""
    return {"crop_px": crop_px, "cell_stride_px": max(1, round(crop_px * 42 / 128)), "cell_pad_px": crop_px - patch_px}
