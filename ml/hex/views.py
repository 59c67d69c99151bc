"""Random views of tiles, and the batches that training takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from ml.hex.colour import STAINS
from ml.hex.config import HexFitConfig

# Random views of a batch: (B, S, S, 3) uint8 -> (B, 3, S, S) float32 in 0..1.
View = Callable[[Tensor], Tensor]


def view_of(config: HexFitConfig, generator: torch.Generator) -> View:
    """The augmentation that the config names; its random numbers come from `generator` alone."""
    return {"stain": StainViews, "released": ReleasedViews, "none": PlainViews}[config.augmentation](config, generator)


class PlainViews:
    """No augmentation: the tiles as they are."""

    def __init__(self, config: HexFitConfig, generator: torch.Generator) -> None:
        pass

    def __call__(self, tiles: Tensor) -> Tensor:
        return tiles.permute(0, 3, 1, 2).float().div_(255)


class ReleasedViews:
    """As released (spec 2.2): flips, a turn by any angle within 90 degrees with black corners, colour jitter in random order."""

    JITTER = 0.1
    HUE = 0.01

    def __init__(self, config: HexFitConfig, generator: torch.Generator) -> None:
        self.generator = generator

    def __call__(self, tiles: Tensor) -> Tensor:
        x = tiles.permute(0, 3, 1, 2).float().div_(255)
        return torch.stack([self._one(tile) for tile in x])

    def _one(self, tile: Tensor) -> Tensor:
        flip_x, flip_y, angle, *factors = torch.rand(7, generator=self.generator).tolist()
        tile = tile.flip(2) if flip_x < 0.5 else tile
        tile = tile.flip(1) if flip_y < 0.5 else tile
        tile = tv.rotate(tile, 180 * angle - 90, InterpolationMode.NEAREST)
        brightness, contrast, saturation = (1 + self.JITTER * (2 * f - 1) for f in factors[:3])
        hue = self.HUE * (2 * factors[3] - 1)
        changes = (
            lambda t: tv.adjust_brightness(t, brightness),
            lambda t: tv.adjust_contrast(t, contrast),
            lambda t: tv.adjust_saturation(t, saturation),
            lambda t: tv.adjust_hue(t, hue),
        )
        for i in torch.randperm(4, generator=self.generator).tolist():
            tile = changes[i](tile)
        return tile


class StainViews:
    """Random views of a batch: (B, S, S, 3) uint8 -> (B, 3, S, S) float32 in 0..1, channels last in memory.

    Stain, hue and light are jittered per tile in optical density, where stains add: OD' = OD A + b, with A scaling hematoxylin
    and eosin and mixing channels a little, b a change of the white point. So a new site's stain is not news to the model.
    """

    def __init__(self, config: HexFitConfig, generator: torch.Generator) -> None:
        self.config, self.generator = config, generator
        self.stains = torch.tensor(STAINS)
        self.unmix = torch.linalg.inv(self.stains)
        self.density = -torch.log((torch.arange(256) + 1) / 256)

    def __call__(self, tiles: Tensor) -> Tensor:
        if self.config.flips:
            tiles = self._turn(tiles)
        b, s = tiles.shape[0], tiles.shape[1]
        noise = torch.randn((b, 3, 5), generator=self.generator)
        strength = torch.diag_embed(torch.exp(self.config.stain_jitter * noise[:, :, 0]))
        mix = torch.eye(3) + self.config.hue_jitter * noise[:, :, 1:4]
        turn = self.unmix @ strength @ self.stains @ mix
        light = self.config.light_jitter * noise[:, :, 4].unsqueeze(1)
        density = torch.index_select(self.density, 0, tiles.reshape(-1).int()).reshape(b, s * s, 3)
        density = torch.baddbmm(light, density, turn)
        return density.neg_().exp_().clamp_(0, 1).reshape(b, s, s, 3).permute(0, 3, 1, 2)

    def _turn(self, tiles: Tensor) -> Tensor:
        """One of the eight symmetries of the square per eighth of the batch: cheap, and as random since batches are shuffled."""
        parts = []
        for part in tiles.chunk(8):
            code = int(torch.randint(8, (1,), generator=self.generator))
            part = torch.rot90(part, code % 4, (1, 2))
            parts.append(part.flip(2) if code >= 4 else part)
        return torch.cat(parts)


class Batches:
    """Batches of one epoch after the other: call it with the number of the epoch.

    inputs: (n, S, S, 3) uint8 tiles (a memory map too) or (n, d) float32 vectors. labels: (n, P) float32 in the unit of the scale. index:
    rows to draw from. A batch is (tiles (B, 3, S, S) float32 in 0..1 or vectors (B, d), labels (B, P)). Order and views depend on seed,
    epoch and rank alone. Under DDP each process draws its own share of the same order, as a DistributedSampler gives it.
    """

    def __init__(
        self,
        inputs: NDArray[np.uint8] | NDArray[np.float32],
        labels: NDArray[np.float32],
        index: NDArray[np.int64],
        config: HexFitConfig,
        seed: int,
    ) -> None:
        self.inputs, self.labels, self.index, self.config, self.seed = inputs, labels, index, config, seed
        self.size = min(config.batch, len(index))

    @property
    def world(self) -> tuple[int, int]:
        """(rank, processes)."""
        there = torch.distributed.is_available() and torch.distributed.is_initialized()
        return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if there else (0, 1)

    def steps(self, devices: int = 1) -> int:
        """Per epoch and process; the last batch of an epoch is filled up from the start of its order."""
        return max(1, -(-len(self.index) // (self.size * devices)))

    def __call__(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        rank, world = self.world
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        order = self.index[torch.randperm(len(self.index), generator=generator).numpy()]
        needed = self.steps(world) * self.size * world
        mine = np.resize(order, needed)[rank::world]
        view = view_of(self.config, torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) * 64 + rank))
        for at in range(0, len(mine), self.size):
            rows = mine[at : at + self.size]
            inputs = torch.from_numpy(np.ascontiguousarray(self.inputs[rows]))
            yield (self._sized(view(inputs)) if inputs.ndim == 4 else inputs), torch.from_numpy(self.labels[rows])

    def _sized(self, tiles: Tensor) -> Tensor:
        """Tiles of fewer pixels than the encoder takes, enlarged after they were turned (spec 2.2); antialiased bilinear."""
        px = self.config.input_px
        if tiles.shape[-1] == px:
            return tiles
        return F.interpolate(tiles, size=(px, px), mode="bilinear", antialias=True, align_corners=False).clamp_(0, 1)
