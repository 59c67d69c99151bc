"""How an image becomes cell, niche and tissue representations. Imports no torch: forms are made from it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class VirtuesEmbedConfig(BaseModel):
    """Crops, what is kept of them, and which niches stand for a tissue in retrieval."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    crop_px: int = Field(default=128, ge=16, le=1024, description="Side of a crop in px of the model's pitch; a niche is one crop.")
    min_tissue: float = Field(default=0.30, ge=0, le=1, description="Smallest share of a crop that must be tissue (VirTues, Methods: 30%).")
    cells: bool = Field(default=True, description="Represent each cell too, where the image has a cell mask.")
    cell_stride_px: int = Field(default=42, ge=1, le=1024, description="Step between the crops that cells are seen in.")
    cell_pad_px: int = Field(default=120, ge=0, le=1024, description="Zeros around the image, so that border cells are seen as often.")
    retrieval_set: Literal["medoids", "central"] = Field(
        default="medoids", description="Niches that stand for a tissue: weighted medoids of all, or the central 4 x 4 of the paper."
    )
    max_medoids: int = Field(default=16, ge=1, le=256, description="Most medoids of a tissue.")
    batch: int = Field(default=4, ge=1, le=512, description="Crops that are encoded at once.")
    precision: Literal["fp32", "fp16", "bf16"] = Field(default="fp32", description="Arithmetic of a GPU; a CPU computes in fp32.")
    seed: int = Field(default=0, ge=0, description="Seed of the subsamples of tissues with more than 1,024 niches.")
