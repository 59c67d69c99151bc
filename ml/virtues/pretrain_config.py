"""Hyper-parameters of VirTues' pretraining, evaluation and virtual staining (spec 6, 9). Imports no torch: forms are made from it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ml.virtues.config import VirtuesConfig

Masking = Literal["independent", "marker", "niche"]
MASKINGS: tuple[Masking, ...] = ("independent", "marker", "niche")


def compact() -> VirtuesConfig:
    """A network that two CPU cores train in minutes: width 128, four encoder and two decoder blocks."""
    return VirtuesConfig(
        model_dim=128, feedforward_dim=256, encoder_pattern="hvhv", decoder_pattern="ff", num_encoder_heads=4, num_decoder_heads=4
    )


class VirtuesPretrainConfig(BaseModel):
    """Pretraining by masked reconstruction. Defaults are small; `released` is the paper's recipe, `as_coded` that of the public code."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: VirtuesConfig = Field(default_factory=compact, description="The network.")
    pitch_um: float = Field(default=1.0, gt=0.05, le=20, description="Pitch at which images are read, in um per pixel (published: 1).")
    crop: int = Field(default=128, ge=8, le=1024, description="Edge of a training crop in px.")
    tiling: Literal["random", "greedy"] = Field(
        default="random",
        description="random: a random crop of random sub-images each epoch (paper); greedy: fixed tiles over the tissue (public code).",
    )
    subimage: int = Field(default=256, ge=8, le=4096, description="Edge of a sub-image in px, from which crops are drawn (random).")
    subimages: int = Field(
        default=4, ge=1, le=1000, description="Sub-images per tissue, times the number of sub-images that its area holds (random)."
    )
    min_tissue: float = Field(default=0.3, ge=0, le=1, description="Least share of tissue in a sub-image (random) or tile (greedy).")
    epochs: int = Field(default=20, ge=1, le=10_000, description="Passes over all sub-images or tiles.")
    batch: int = Field(default=8, ge=1, le=1024, description="Crops of a batch, per device.")
    accumulate: int = Field(default=1, ge=1, le=1024, description="Batches per step of the optimiser.")
    lr: float = Field(default=2e-4, gt=0, le=1, description="Highest learning rate; a cosine leads from it to lr_end.")
    lr_end: float = Field(default=0.0, ge=0, le=1, description="Learning rate of the last step.")
    warmup: float = Field(default=0.1, ge=0, le=0.9, description="Share of the steps in which the learning rate rises.")
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="Weight decay at the first step; none on biases and LayerNorms.")
    weight_decay_end: float | None = Field(default=None, ge=0, le=1, description="At the last step, by a cosine; empty: constant.")
    clip: float = Field(default=1.0, gt=0, le=1000, description="Limit of the gradient's norm.")
    precision: Literal["fp32", "fp16", "bf16"] = Field(default="fp16", description="Of a GPU; a CPU computes in fp32.")
    mask_low: float = Field(default=0.6, ge=0, le=1, description="Least share of a channel's patches that is masked.")
    mask_high: float = Field(default=1.0, ge=0, le=1, description="Largest share of a channel's patches that is masked.")
    keep_channels: float = Field(default=0.75, gt=0, le=1, description="Least share of a sample's channels that is kept.")
    held_out: float = Field(default=0.2, ge=0, le=0.5, description="Share of the patients of every data set that training never sees.")
    leave_out: str = Field(default="", max_length=200, description="Name of a data set that training never sees; empty: none.")
    max_seconds: float = Field(default=86_400.0, gt=0, description="Wall clock, then training ends early.")
    checkpoint_every: int = Field(default=1, ge=0, le=1000, description="Epochs between checkpoints; 0: none.")
    workers: int = Field(default=0, ge=0, le=64, description="Threads that prepare crops ahead of the network; 0: none (a CPU has no use).")
    seed: int = Field(default=0, ge=0, le=2**31, description="Of the split, the crops, the masks and the first weights.")

    @model_validator(mode="after")
    def _fits(self) -> VirtuesPretrainConfig:
        if self.crop % self.network.patch_size:
            raise ValueError(f"A crop of {self.crop} px does not divide into patches of {self.network.patch_size} px.")
        if self.mask_low > self.mask_high:
            raise ValueError("The least masked share is above the largest.")
        if self.tiling == "random" and self.subimage < self.crop:
            raise ValueError(f"A crop of {self.crop} px does not fit into a sub-image of {self.subimage} px.")
        return self

    @classmethod
    def released(cls, **values: Any) -> VirtuesPretrainConfig:
        """The recipe of the paper: 150 epochs, 512 crops per step, weight decay by a cosine from 0.04 to 0.4.

        Where the cosine ends the paper does not say; 0.4 is the first release's. One device: with n, accumulate is 32 / n.
        """
        recipe = {"network": VirtuesConfig(), "epochs": 150, "batch": 16, "accumulate": 32, "weight_decay": 0.04, "weight_decay_end": 0.4}
        return cls(**{**recipe, "workers": 8, **values})

    @classmethod
    def as_coded(cls, **values: Any) -> VirtuesPretrainConfig:
        """The recipe of the public code: 100 epochs of greedy tiles (at least 5% tissue), 16 crops per step, weight decay 0.01."""
        recipe = {"network": VirtuesConfig(), "epochs": 100, "batch": 16, "tiling": "greedy", "min_tissue": 0.05, "weight_decay": 0.01}
        return cls(**{**recipe, "workers": 8, **values})


class VirtuesEvaluateConfig(BaseModel):
    """Reconstruction of what was masked, on patients or regions that training did not see."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    maskings: tuple[Masking, ...] = Field(default=MASKINGS, min_length=1, description="independent: by channel; marker: one whole; niche.")
    mask_low: float = Field(default=0.6, ge=0, le=1, description="Least share of patches that is masked (independent, niche).")
    mask_high: float = Field(default=1.0, ge=0, le=1, description="Largest share of patches that is masked (independent, niche).")
    batch: int = Field(default=8, ge=1, le=256, description="Crops that are reconstructed at once.")
    bootstrap: int = Field(default=1000, ge=0, le=10_000, description="Draws of patients or regions behind an interval.")
    seed: int = Field(default=0, ge=0, le=2**31, description="Of the masks and the draws.")


class VirtuesStainConfig(BaseModel):
    """A marker that was not measured, painted from those that were."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tile: int = Field(default=128, ge=8, le=1024, description="Edge of a tile in px; tiles do not overlap but for the last ones.")


class VirtuesTissueConfig(BaseModel):
    """A classifier of tissues from their patch summaries; defaults are the paper's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: int = Field(default=256, ge=1, le=4096, description="Width of the attention's gates.")
    heads: int = Field(default=8, ge=1, le=64, description="Attention vectors.")
    lr: float = Field(default=1e-4, gt=0, le=1, description="Learning rate of Adam.")
    batch: int = Field(default=16, ge=1, le=1024, description="Tissues of a batch.")
    epochs: int = Field(default=100, ge=1, le=10_000, description="Passes at most.")
    patience: int = Field(default=10, ge=1, le=1000, description="Epochs without a lower validation loss after which training ends.")
    validation: float = Field(default=0.2, gt=0, le=0.5, description="Share of the train split's patients that is watched.")
    seeds: int = Field(default=5, ge=1, le=100, description="Classifiers, each with its own first weights and watched patients.")
    seed: int = Field(default=0, ge=0, le=2**31, description="Of the first of them.")
