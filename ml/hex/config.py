"""Every hyper-parameter of HEX with unit, default and its place in the paper. Imports no torch: forms are made from this."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ml.encoders.catalogue import CATALOGUE, encoder
from ml.hex.panel import HEX_PANEL


def _f(default: Any, unit: str, source: str, description: str, **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"unit": unit, "source": source}, **limits)


class HexFitConfig(BaseModel):
    """How a HEX is fitted. Where the default is not the paper's, the source says what the paper has; `released()` is the paper's recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = _f(
        "compact-resnet-48",
        "",
        "paper: MUSK (ViT-L/16, 384 px)",
        "Encoder of the catalogue (or timm:NAME) under the head; one that needs weights takes its registered version.",
    )
    markers: tuple[str, ...] = _f(HEX_PANEL, "", "spec 1.1", "Proteins to predict, in the order of the label columns.", min_length=1)
    tile_um: float = _f(56.0, "um", "spec 1.2: 224 px at 0.25 um/px", "Side of a tile.", gt=0)
    label_scaling: Literal["p99_global", "divide_by_256", "none"] = _f(
        "p99_global",
        "",
        "paper Methods; spec 1.2 Scaling",
        "Unit of the labels: share of each marker's 99th percentile, clipped to 0..1; or divided by 256 (the sample); or as given.",
    )
    epochs: float = _f(6.0, "passes over the fold's tiles", "paper: 120", "Length of training.", gt=0, le=1000)
    folds: int = _f(2, "", "paper: 5", "Patient-level folds; each patient is predicted by a fold that did not see her.", ge=2, le=50)
    loss: Literal["mse", "adaptive"] = _f(
        "mse",
        "",
        "paper: adaptive (ALF)",
        "Mean squared error, or Barron's general robust loss whose shape and scale are learnt per marker.",
    )
    fds: bool = _f(False, "", "paper: on", "Feature distribution smoothing: calibrates the head's features by neighbouring label bins.")
    hidden: tuple[int, int] = _f((256, 128), "units", "spec 2", "Widths of the head.")
    dropout: float = _f(0.5, "", "spec 2", "Dropout after each hidden layer of the head.", ge=0, lt=1)
    batch: int = _f(64, "tiles", "paper: 8 GPUs x 48", "Tiles per step and process.", ge=2, le=4096)
    lr: float = _f(3e-3, "", "paper: 1e-5, pretrained backbone", "Learning rate at its peak (cosine) or at the start.", gt=0, le=1)
    optimiser: Literal["adamw", "adam"] = _f("adamw", "", "paper: Adam", "Adam with decoupled decay, or Adam as released.")
    weight_decay: float = _f(1e-2, "", "paper: 0", "Decoupled weight decay of AdamW; Adam takes none.", ge=0, le=1)
    schedule: Literal["cosine", "exponential", "constant"] = _f(
        "cosine",
        "",
        "paper: exponential",
        "A warm-up over a tenth of the steps and a cosine to zero; or the rate times `lr_decay` after each epoch; or the same rate.",
    )
    lr_decay: float = _f(0.95, "per epoch", "spec 3", "Factor of the exponential schedule.", gt=0, le=1)
    clip: float | None = _f(1.0, "norm of the gradient", "paper: none", "Longer gradients are shortened to this; empty: never.", gt=0)
    trained_layers: int | None = _f(
        None,
        "blocks",
        "paper: 4",
        "Last blocks of the encoder that are trained with the head; empty: all; 0: none, so that each tile is encoded only once.",
        ge=0,
    )
    head_only_from: float | None = _f(None, "epochs", "paper: 100", "From this epoch on the encoder is frozen and the head goes on.", ge=0)
    targets: Literal["standardised", "scaled"] = _f(
        "standardised",
        "",
        "paper: scaled",
        "What the loss compares: labels standardised per marker (no bright marker outweighs a dim one), or as scaled.",
    )
    fds_start_smooth: int = _f(10, "epochs", "spec 4", "Features are calibrated from this epoch on.", ge=1)
    fds_until: int = _f(50, "epochs", "spec 3", "From this epoch on smoothing is off again.", ge=1)
    fds_start_update: int = _f(0, "epochs", "spec 4", "Epoch whose statistics start the running ones.", ge=0)
    fds_covariance: Literal["diagonal", "full"] = _f(
        "diagonal", "", "paper: full; released code: diagonal", "Calibration by variances, or by whole covariance matrices."
    )
    fds_bins: int = _f(50, "bins over 0..1", "spec 4", "Bins of the labels.", ge=2, le=1000)
    fds_kernel: int = _f(9, "bins", "spec 4", "Length of the smoothing kernel (odd).", ge=3, le=99)
    fds_sigma: float = _f(2.0, "bins", "spec 4", "Width of the Gaussian kernel.", gt=0)
    fds_momentum: float = _f(0.9, "", "spec 4", "Share of the old statistics that is kept at each epoch.", ge=0, lt=1)
    augmentation: Literal["stain", "released", "none"] = _f(
        "stain", "", "paper: released", "Random views: flips, turns and stain; or flips, any angle and colour as released; or none."
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
    precision: Literal["fp32", "fp16", "bf16"] = _f("fp32", "", "paper: fp16", "Arithmetic on a GPU; a CPU computes in fp32.")
    checkpoint_every: int = _f(5, "epochs", "spec 3", "A stopped training goes on from the last of these.", ge=1)
    max_seconds: float = _f(
        600.0, "s of wall clock per fold", "ours", "A fold's training ends here at the latest; the metrics then say so.", gt=0
    )
    seed: int = _f(0, "", "paper: the process rank", "Seed of folds, initial weights, order and augmentation.", ge=0)

    @classmethod
    def released(cls, **changes: Any) -> HexFitConfig:
        """The recipe of the released code (spec 3 and 4), on any encoder: last four blocks unfrozen, FDS and ALF, two phases, decay, AMP.

        Its batch of 48 is per process; the authors ran eight.
        """
        recipe = {
            "encoder": "musk",
            "epochs": 120,
            "folds": 5,
            "loss": "adaptive",
            "fds": True,
            "batch": 48,
            "lr": 1e-5,
            "optimiser": "adam",
            "weight_decay": 0.0,
            "schedule": "exponential",
            "clip": None,
            "trained_layers": 4,
            "head_only_from": 100,
            "targets": "scaled",
            "augmentation": "released",
            "precision": "fp16",
            "max_seconds": 7 * 86400.0,
        }
        return cls(**{**recipe, **changes})

    @model_validator(mode="after")
    def _fits_together(self) -> HexFitConfig:
        if self.fds and self.fds_start_smooth >= min(self.fds_until, self.epochs):
            raise ValueError(
                f"Smoothing would start at epoch {self.fds_start_smooth} and never act: training takes {self.epochs:g} epochs and "
                f"smoothing ends at {self.fds_until}."
            )
        if self.fds and self.fds_kernel % 2 == 0:
            raise ValueError(f"The kernel's length is {self.fds_kernel} and must be odd.")
        if self.fds and self.label_scaling == "none":
            raise ValueError("Smoothing bins labels over 0..1 and needs a label scaling.")
        return self

    @field_validator("encoder")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in CATALOGUE and not name.startswith("timm:"):
            raise ValueError(f"There is no encoder {name!r}; there are {', '.join(CATALOGUE)}, and timm:NAME.")
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
        return encoder(self.encoder).input_px


class HexPredictConfig(BaseModel):
    """How a fitted HEX is applied."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: int = _f(256, "tiles", "released code: 128", "Tiles per forward pass.", ge=1)
    precision: Literal["as fitted", "fp32", "fp16", "bf16"] = _f(
        "as fitted", "", "released code: fp16", "Arithmetic on a GPU; a CPU computes in fp32."
    )
    views: Literal[1, 4] = _f(1, "", "released code: 1", "Predictions averaged over this many mirrored views of the tile.")
    stride_um: float | None = _f(
        None, "um", "paper: 3.5 (14 px of 0.25 um/px)", "Distance of neighbouring tiles of a map; None: side by side.", gt=0
    )


class HexEvaluateConfig(BaseModel):
    """How a HEX is measured on tissue whose proteins were measured, too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label_scaling: Literal["p99_global", "divide_by_256", "none"] = _f(
        "p99_global",
        "",
        "paper Methods",
        "Unit of the measured labels: share of each marker's 99th percentile on these slides; or divided by 256; or as given.",
    )
    draws: int = _f(1000, "draws", "paper: 1000", "Patient bootstrap behind the intervals.", ge=100, le=10000)
    alpha: float = _f(0.1, "", "ours", "Error rate of the conformal intervals.", gt=0, lt=0.5)
    seed: int = _f(0, "", "ours", "Seed of the bootstrap.", ge=0)
