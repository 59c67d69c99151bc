"""Hyper-parameters of the niche family. Imports neither torch nor numpy: forms are made from it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class BlockWeights(BaseModel):
    """What each block of a niche vector contributes to a squared distance, relative to the others (0 leaves it out)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    protein_mean: float = Field(default=1.0, ge=0, le=100, description="Weight of the mean virtual proteins of a niche.")
    protein_sd: float = Field(default=1.0, ge=0, le=100, description="Weight of the spread of the virtual proteins inside a niche.")
    morphology: float = Field(default=1.0, ge=0, le=100, description="Weight of the fixed H&E descriptors.")


class NicheConfig(BaseModel):
    """How a tissue becomes a weighted set of niches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    niche_um: float = Field(default=128.0, gt=0, le=2000, description="Side of a niche in um; a lattice anchored at the slide's origin.")
    min_tissue: float = Field(default=0.30, ge=0, le=1, description="Smallest share of a niche's area that must be tissue.")
    max_medoids: int = Field(default=16, ge=1, le=256, description="Most niches that stand for one tissue in retrieval.")
    weights: BlockWeights = Field(default_factory=BlockWeights, description="Weights of the blocks of a niche vector.")
    seed: int = Field(default=0, ge=0, description="Seed of the subsamples that are drawn from tissues of more than 1,024 niches.")
