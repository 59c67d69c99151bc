"""Every hyper-parameter of MICA with unit, default and its place in the sources. Imports no torch: forms are made from this.

The released trainer's own defaults are not the paper's network: it pools by attention where the paper's figure pools by averaging.
The widths of the inputs (1,024 and 384 as released) are no settings: they are the data's.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Modality = Literal["both", "he", "codex"]
MONTHS_24 = 730.5  # 24 x 30.4375 days


def _f(default: Any, unit: str, source: str, description: str, **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"unit": unit, "source": source}, **limits)


class MicaFitConfig(BaseModel):
    """How a MICA is fitted. Where the default is not the released one, the source says what was released."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    codex_encoder: Literal["fixed-map-descriptors", "dinov2-s14-reg"] = _f(
        "fixed-map-descriptors",
        "",
        "paper: DINOv2 ViT-S/14 with registers",
        "What makes a token of each marker's map: fixed descriptors, or DINOv2, whose weights must be brought into use first.",
    )
    modality: Modality = _f("both", "", "spec 3; one branch: ours", "Which bags are read: both, H&E alone, or virtual CODEX alone.")
    width: int = _f(256, "units", "spec 3: d", "Width of the network after the first layer of each branch.", ge=2)
    dropout: float = _f(0.25, "", "spec 3", "Dropout after each hidden layer and within the transformers.", ge=0, lt=1)
    coattention_heads: int = _f(1, "", "spec 3.2", "Heads of the co-attention of CODEX tokens on H&E tiles.", ge=1)
    heads: int = _f(8, "", "spec 3.3", "Heads of the transformers.", ge=1)
    layers: int = _f(2, "", "spec 3.3", "Layers of each transformer.", ge=1)
    ffn: int = _f(512, "units", "spec 3.3", "Hidden width of the transformers' feed-forward layers.", ge=1)
    transformer_mode: Literal["separate", "shared"] = _f(
        "separate", "", "paper: two; first commit: shared", "One transformer per branch, or one for both."
    )
    pooling: Literal["gap", "attn"] = _f(
        "gap", "", "paper: average; released trainer: attn", "How a branch's tokens become one vector: average, or gated attention."
    )
    fusion: Literal["concat", "bilinear"] = _f("concat", "", "released trainer; spec 3.5", "How the branches' vectors are joined.")
    he_queries: int = _f(
        40, "tokens", "ours: 40 markers", "H&E alone: learned tokens that stand where the CODEX tokens ask the tiles.", ge=1
    )
    standardise: bool = _f(
        False, "", "released code: no", "Bring each input feature to mean 0, deviation 1 of the fitting slides (kept in the weights)."
    )
    bins: int = _f(4, "", "spec 4", "Intervals of survival time, with equal numbers of events.", ge=2, le=20)
    bins_from: Literal["training", "whole_table"] = _f(
        "training", "", "released code: whole_table, validation folds included", "Whose event times make the intervals."
    )
    alpha: float = _f(0.0, "", "spec 4: alpha_surv", "Extra weight of uncensored patients in the loss.", ge=0, le=1)
    lr: float = _f(2e-4, "", "released default; its README's command: 1e-5", "Learning rate of Adam, constant.", gt=0)
    weight_decay: float = _f(1e-5, "", "spec 5", "L2 penalty in the gradient (Adam).", ge=0)
    accumulate: int = _f(32, "slides", "released default; its README's command: 8", "Slides whose gradients make one step.", ge=1)
    epochs: int = _f(20, "passes over the fold's slides", "spec 5", "Length of training; the last epoch is kept.", ge=1)
    balanced_sampler: bool = _f(False, "", "spec 5: optional", "Draw slides so that each interval and event state is as frequent.")
    max_tiles: int | None = _f(None, "tiles", "released code: full bags", "At most so many tiles of a slide per step, drawn anew.", ge=1)
    folds: int = _f(5, "", "spec 1", "Patient-level folds; each patient is predicted by a fold that did not see her.", ge=2, le=20)
    seed: int = _f(1, "", "spec 5", "Seed of folds, initial weights, order, dropout and bootstrap.", ge=0)
    precision: Literal["fp32", "fp16", "bf16"] = _f("fp32", "", "released code: fp32", "Arithmetic of a GPU; a CPU computes in fp32.")
    max_seconds: float = _f(
        3600.0, "s of wall clock per fold", "ours", "A fold's training ends here at the latest; the metrics then say so.", gt=0
    )
    horizon_days: float = _f(MONTHS_24, "days", "ours: 24 months", "Horizon of the event probability.", gt=0)
    bootstrap: int = _f(1000, "draws", "ours", "Patient bootstrap behind the interval of C.", ge=20, le=10000)
    compare: bool = _f(True, "", "ours", "Fit H&E alone and virtual CODEX alone on the same folds, too, and tell what the other adds.")
    permutations: int = _f(
        0, "runs", "DESIGNS 9: 200", "Runs of the whole recipe on shuffled outcomes behind the p of C; 0 gives none.", ge=0, le=1000
    )

    @model_validator(mode="after")
    def _divides(self) -> MicaFitConfig:
        for heads in (self.heads, self.coattention_heads):
            if self.width % heads:
                raise ValueError(f"A width of {self.width} cannot be shared by {heads} heads.")
        if self.fusion == "bilinear" and (self.modality != "both" or self.width < 8):
            raise ValueError("Bilinear fusion joins two branches of a width of 8 or more.")
        return self


class MicaPredictConfig(BaseModel):
    """How a fitted MICA is applied."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    horizon_days: float | None = _f(None, "days", "ours", "Horizon of the event probability; empty: the one it was fitted with.", gt=0)
    attention: bool = _f(True, "", "released code: kept per slide", "Give the attention of each marker over the tiles, too.")


class MicaExplainConfig(BaseModel):
    """How a risk is explained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = _f(64, "points", "spec 5: integrated gradients", "Points of the path from the empty bag, each one pass.", ge=2, le=2000)
