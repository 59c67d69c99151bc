"""Pretraining on virtual maps at their own pitch: the same recipe with crops and patches of another physical size. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ml.virtues.config import VirtuesConfig
from ml.virtues.pretrain_config import VirtuesPretrainConfig, compact


def network_of_patch(patch_px: int) -> VirtuesConfig:
    """The compact network with patches of this edge."""
    return compact().model_copy(update={"patch_size": patch_px})


class VirtuesMapsConfig(VirtuesPretrainConfig):
    """Defaults are for a map of tiles side by side: at 56 um per cell a patch of 2 cells is 112 um and a crop of 16 cells 0.9 mm wide."""

    network: VirtuesConfig = Field(
        default_factory=lambda: network_of_patch(2), description="The network; its patch counts cells of the map."
    )
    maps: Literal["tiles", "dense"] = Field(default="tiles", description="Maps of tiles side by side, or dense maps of overlapping tiles.")
    pitch_um: float = Field(default=56.0, gt=0, le=1000, description="um per cell of the maps; they decide it.")
    crop: int = Field(default=16, ge=16, le=1024, description="Edge of a training crop in cells (16 cells of 56 um: 0.9 mm).")
    subimage: int = Field(default=24, ge=4, le=4096, description="Edge of a sub-image in cells, from which crops are drawn (random).")
    min_tissue: float = Field(
        default=0.5, ge=0, le=1, description="Least share of cells with a value in a sub-image (random) or tile (greedy)."
    )

    @classmethod
    def recipes(cls) -> list[tuple[str, str, dict[str, Any]]]:
        """(name, title, settings) beside the defaults. Dense: a patch of 4 cells of 14 um is one tile of 56 um, a crop 0.45 mm."""
        dense = cls(maps="dense", pitch_um=14.0, network=network_of_patch(4), crop=32, subimage=64)
        return [("dense", "dense maps of 14 µm: patches of 56 µm, crops of 0.45 mm", dense.model_dump(mode="json"))]
