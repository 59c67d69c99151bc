"""Hyper-parameters of VirTues. Imports no torch: forms are made from it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class VirtuesConfig(BaseModel):
    """The network. Defaults are those of the released weights (virtues-sp32, -sp31, -imc14); names are those of their configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    patch_size: int = Field(default=8, ge=2, le=64, description="Edge of a patch in px of the model's pitch.")
    model_dim: int = Field(default=512, ge=16, le=4096, description="Width of a token.")
    feedforward_dim: int = Field(default=1024, ge=16, le=16384, description="Hidden width of a feed-forward layer.")
    encoder_pattern: str = Field(
        default="hv" * 8,
        pattern="^[hv]+$",
        max_length=64,
        description="Encoder blocks: h = spatial, v = across markers.",
    )
    num_encoder_heads: int = Field(default=8, ge=1, le=64, description="Attention heads of the encoder.")
    decoder_pattern: str = Field(default="ffff", pattern="^f+$", max_length=32, description="Decoder blocks (f = full attention).")
    num_decoder_heads: int = Field(default=8, ge=1, le=64, description="Attention heads of the decoder.")
    marker_embedding_dim: int = Field(default=640, ge=1, le=8192, description="Length of a marker's protein embedding (ESM-2 150M: 640).")
    num_decoder_hidden_layers: int = Field(default=0, ge=0, le=8, description="Layers of the output head; 0 and 1 mean the same.")
    norm_after_encoder_decoder: Literal[True] = Field(default=True, description="LayerNorm at the end of encoder and decoder.")
    positional_embedding_type: Literal["rope"] = Field(default="rope", description="Rotary positions of the grid.")
    prior_bias_embedding_type: Literal["esm"] = Field(default="esm", description="Markers are told by protein embeddings.")

    @model_validator(mode="after")
    def _heads_fit(self) -> VirtuesConfig:
        for heads in (self.num_encoder_heads, self.num_decoder_heads):
            if self.model_dim % heads or (self.model_dim // heads) % 4:
                raise ValueError(f"{self.model_dim} dimensions do not split into {heads} heads of a multiple of four dimensions.")
        return self

    @property
    def first_marker_block(self) -> int:
        """0-based index of the first block of attention across markers; -1 where there is none."""
        return self.encoder_pattern.find("v")
