"""HEX: an encoder of tiles and the 256-128-P head (spec section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ml.encoders.catalogue import EncoderSpec, build, encoder
from ml.encoders.trainable import frozen_tower
from ml.hex.config import HexFitConfig
from ml.hex.data import Rows
from ml.hex.errors import HexDataError


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
    def absorb(self, mean: Tensor, sd: Tensor) -> None:
        """Folds x' = (x - mean) / sd into the first layer: a head fitted on standardised vectors then takes them as they are."""
        first = cast(nn.Linear, self.regression_head[0])
        first.weight.div_(sd)
        first.bias.sub_(first.weight @ mean)

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
        self.encoder, self.head, self.input_px = network, head, spec.input_px
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
    model = HexModel(tower(config, weights), HexHead(spec.dim, len(config.markers), config.hidden, config.dropout), spec)
    return model.to(memory_format=torch.channels_last)


def tower(config: HexFitConfig, weights: str | Path | None = None) -> nn.Module:
    """The encoder under the head. One that is never trained may also be fixed descriptors. Errors: EncoderError, WeightsMissing."""
    if config.trained_layers == 0:
        return frozen_tower(config.encoder, weights, config.tile_um)
    return build(config.encoder, weights)


class NoEncoder(nn.Module):
    """Stands under a head that was fitted on vectors alone: it cannot read tiles, and says so."""

    def forward(self, tiles: Tensor) -> Tensor:
        raise HexDataError("no_encoder", "This HEX was fitted on feature vectors and holds no encoder for tiles.", "Give it vectors.")


@torch.inference_mode()
def head_on(model: HexModel, vectors: NDArray[np.float32] | Rows, block: int = 8192) -> NDArray[np.float32]:
    """Raw predictions (n, P) float32 of vectors (n, d) that the model's encoder made."""
    device = next(model.head.parameters()).device
    parts = [torch.from_numpy(np.ascontiguousarray(vectors[i : i + block])).to(device) for i in range(0, len(vectors), block)]
    return torch.cat([model.head(part)[0].float().cpu() for part in parts]).numpy()


@torch.no_grad()
def start_from(model: HexModel, start: HexModel, markers: Sequence[str], theirs: Sequence[str]) -> None:
    """Fine-tuning: copies encoder and head of `start`; of the last layer the rows of proteins that both predict. HexDataError
    start_differs."""
    for mine, other in ((model.encoder, start.encoder), (model.head.regression_head, start.head.regression_head)):
        try:
            mine.load_state_dict(other.state_dict())
        except RuntimeError as error:
            sentence = "The model to start from has another encoder or head."
            raise HexDataError("start_differs", sentence, "Choose the same encoder.") from error
    last, given = cast(nn.Linear, model.head.regression_head1[0]), cast(nn.Linear, start.head.regression_head1[0])
    for row, name in enumerate(markers):
        if name in theirs:
            last.weight[row], last.bias[row] = given.weight[list(theirs).index(name)], given.bias[list(theirs).index(name)]
