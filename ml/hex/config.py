"""Every hyper-parameter of HEX with unit, default and its place in the paper. Imports no torch: forms are made from this."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ml.encoders.catalogue import CATALOGUE
from ml.hex.panel import HEX_PANEL


def _f(default: Any, unit: str, source: str, description: str, **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"unit": unit, "source": source}, **limits)


class HexFitConfig(BaseModel):
    """How a HEX is fitted. Where the default is not the paper's, the source says what the paper has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = _f(
        "compact-resnet-48", "", "paper: MUSK (ViT-L/16, 384 px)", "Encoder of the catalogue, trained together with the head."
    )
    markers: tuple[str, ...] = _f(HEX_PANEL, "", "spec 1.1", "Proteins to predict, in the order of the label columns.", min_length=1)
    tile_um: float = _f(56.0, "um", "spec 1.2: 224 px at 0.25 um/px", "Side of a tile.", gt=0)
    label_scaling: Literal["p99_global", "divide_by_256", "none"] = _f(
        "p99_global",
        "",
        "paper Methods; spec 1.2 Scaling",
        "Unit of the labels: share of each marker's 99th percentile, clipped to 0..1; or as given.",
    )
    hidden: tuple[int, int] = _f((256, 128), "units", "spec 2", "Widths of the head.")
    dropout: float = _f(0.5, "", "spec 2", "Dropout after each hidden layer of the head.", ge=0, lt=1)
    epochs: float = _f(6.0, "passes over the fold's tiles", "paper: 120", "Length of training.", gt=0)
    batch: int = _f(64, "tiles", "paper: 8 GPUs x 48", "Tiles per step.", ge=2)
    lr: float = _f(
        3e-3,
        "",
        "paper: 1e-5, pretrained backbone",
        "Peak learning rate; rises over the first tenth, then falls to zero as a cosine.",
        gt=0,
    )
    weight_decay: float = _f(1e-2, "", "paper: 0 (Adam)", "Decoupled weight decay (AdamW).", ge=0)
    folds: int = _f(2, "", "paper: 5", "Patient-level folds; each patient is predicted by a fold that did not see her.", ge=2)
    seed: int = _f(0, "", "paper: the process rank", "Seed of folds, initial weights, order and augmentation.", ge=0)
    max_seconds: float = _f(
        600.0, "s of wall clock per fold", "ours", "A fold's training ends here at the latest; the metrics then say so.", gt=0
    )
    flips: bool = _f(True, "", "spec 2.2", "Random flips and quarter turns (the paper turns by any angle, with black corners).")
    stain_jitter: float = _f(
        0.15, "standard deviation of the factor", "ours", "Random strength of hematoxylin and eosin, for other stain batches.", ge=0, le=1
    )
    hue_jitter: float = _f(
        0.04,
        "standard deviation",
        "paper: colour jitter 0.1, hue 0.01",
        "Random mixing of colour channels in optical density.",
        ge=0,
        le=0.5,
    )
    light_jitter: float = _f(
        0.03, "optical density", "paper: brightness 0.1", "Random brightness of the white point, for other scanners.", ge=0, le=0.5
    )

    @field_validator("encoder")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in CATALOGUE:
            raise ValueError(f"There is no encoder {name!r}; there are {', '.join(CATALOGUE)}.")
        return name

    @field_validator("markers")
    @classmethod
    def _distinct(cls, markers: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({m for m in markers if markers.count(m) > 1})
        if twice:
            raise ValueError(f"Marker {twice[0]!r} is named twice.")
        return markers

    @property
    def input_px(self) -> int:
        """Side in px to which tiles are resized: the encoder's own."""
        return CATALOGUE[self.encoder].input_px


class HexPredictConfig(BaseModel):
    """How a fitted HEX is applied."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: int = _f(256, "tiles", "released code: 128", "Tiles per forward pass.", ge=1)
    views: Literal[1, 4] = _f(1, "", "released code: 1", "Predictions averaged over this many mirrored views of the tile.")
    stride_um: float | None = _f(
        None, "um", "paper: 3.5 (14 px of 0.25 um/px)", "Distance of neighbouring tiles of a map; None: side by side.", gt=0
    )
