"""he-descriptors as a network, so that the encoder that needs no weights can stand under a trained head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ml.encoders.descriptors import describe
from ml.encoders.spec import EncoderSpec


class DescriptorTower(nn.Module):
    """(B, 3, S, S) float32 of tiles `tile_um` wide, normalised by the entry's mean and std -> (B, 32) float32. Nothing is trained.

    The pixels are made uint8 again and described on the CPU, at tile_um / S um per pixel. Raises MorphologyError above 2 um per pixel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: EncoderSpec, tile_um: float) -> None:
        super().__init__()
        self.tile_um = tile_um
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        pixels = ((x.float() * self.std + self.mean) * 255).round().clamp(0, 255).to(torch.uint8)
        found = describe(pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy(), self.tile_um / x.shape[-1])
        return torch.from_numpy(found).to(x.device)
