"""HEX: an encoder of tiles and the 256-128-P head (spec section 2)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ml.encoders.catalogue import EncoderSpec, build, encoder
from ml.hex.config import HexFitConfig


class HexHead(nn.Module):
    """Linear d->256, ReLU, Dropout, Linear 256->128, ReLU, Dropout = features; Linear 128->P, no activation = predictions.

    The attribute names are the authors', so that their state dicts load (`regression_head.0/3`, `regression_head1.0`).
    """

    def __init__(self, dim: int, markers: int, hidden: tuple[int, int] = (256, 128), dropout: float = 0.5) -> None:
        super().__init__()
        first, second = hidden
        self.regression_head = nn.Sequential(
            nn.Linear(dim, first), nn.ReLU(), nn.Dropout(dropout), nn.Linear(first, second), nn.ReLU(), nn.Dropout(dropout)
        )
        self.regression_head1 = nn.Sequential(nn.Linear(second, markers))

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d) -> predictions (B, P), features (B, 128)."""
        features = self.regression_head(embedding)
        return self.regression_head1(features), features

    @torch.no_grad()
    def rescale(self, mean: Tensor, sd: Tensor) -> None:
        """Folds y = mean + sd * output into the last layer: a head fitted on standardised labels then speaks their own unit."""
        last = cast(nn.Linear, self.regression_head1[0])
        last.weight.mul_(sd.unsqueeze(1))
        last.bias.mul_(sd).add_(mean)


class HexModel(nn.Module):
    """Tiles (B, 3, S, S) float32 in 0..1 -> predictions (B, P) and the head's features (B, 128). Normalises itself."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, head: HexHead, spec: EncoderSpec) -> None:
        super().__init__()
        self.encoder, self.head = network, head
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    def embed(self, tiles: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, d), the encoder's vector per tile."""
        vectors: Tensor = self.encoder((tiles - self.mean) / self.std)
        return vectors

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        predictions, features = self.head(self.embed(tiles))
        return predictions, features


def make(config: HexFitConfig, weights: str | None = None) -> HexModel:
    """A new model of this config; weights: local file of an encoder that needs one (ml.encoders.catalogue.WeightsMissing else)."""
    spec = encoder(config.encoder)
    model = HexModel(build(config.encoder, weights), HexHead(spec.dim, len(config.markers), config.hidden, config.dropout), spec)
    return model.to(memory_format=torch.channels_last)
