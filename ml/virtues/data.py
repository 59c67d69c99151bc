"""Crops of many images, each with its own panel, as pretraining and evaluation take them (spec 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.types import MultiplexImage
from ml.virtues.augment import kept_channels, symmetry
from ml.virtues.errors import VirtuesError
from ml.virtues.markers import MarkerBank
from ml.virtues.masking import independent
from ml.virtues.panel import tissue_of, usable
from ml.virtues.plan import TokenPlan, plan_tokens
from ml.virtues.preprocess import Standard, preprocess
from ml.virtues.pretrain_config import VirtuesPretrainConfig
from ml.virtues.tiling import greedy_tiles, random_subimages

F32 = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Source:
    """One image, with what is known of the channels that the bank has and that carry something; k channels of its C.

    raw: (C, h, w), a memory map too. tissue: (h, w) bool. allowed: (h, w) bool or None for everywhere; a crop touches allowed pixels only.
    kept: (k,) places in the image. names: channels. proteins: accessions. embeddings: (k, E). upper: (k,) 99th percentiles in the tissue.
    mean, std: (k,) of the data set. dropped: (channel, why).
    """

    raw: NDArray[np.generic]
    tissue: Mask
    allowed: Mask | None
    kept: NDArray[np.int64]
    names: tuple[str, ...]
    proteins: tuple[str, ...]
    embeddings: F32
    upper: F32
    mean: F32
    std: F32
    unit: str
    dataset: str
    dropped: tuple[tuple[str, str], ...] = ()

    def crop(self, row: int, col: int, size: int, channels: NDArray[np.int64] | None = None) -> F32:
        """(k, size, size) preprocessed, or of some of the k channels.

        The crop is blurred alone, as in the authors' training: on its rim of one pixel it differs from the same place of the blurred image
        (by up to 0.8 deviations). Cell and tissue inference blurs the whole image instead.
        """
        some = slice(None) if channels is None else channels
        raw = self.raw[self.kept[some], row : row + size, col : col + size]
        return preprocess(np.asarray(raw), self.upper[some], self.mean[some], self.std[some])


def source_of(
    image: MultiplexImage,
    proteins: Sequence[str | None],
    bank: MarkerBank,
    standard: Standard,
    *,
    unit: str,
    dataset: str = "",
    allowed: Mask | None = None,
) -> Source:
    """An image made ready. unit: whose it is (a patient); the others as in `ml.virtues.panel.usable`, whose errors it raises.

    Percentiles are those of the tissue that is allowed.
    """
    tissue = tissue_of(image)
    one = usable(image, proteins, bank, standard, tissue if allowed is None else tissue & allowed)
    mean, std = one.mean.astype(np.float32), one.std.astype(np.float32)
    known = (one.kept, one.names, one.proteins, one.embeddings, one.upper, mean, std)
    return Source(image.values, tissue, allowed, *known, unit, dataset, one.dropped)


def standard_of(images: Sequence[MultiplexImage], allowed: Sequence[Mask | None]) -> Standard:
    """Means and deviations per channel over the allowed tissue of a data set's images."""
    places = ((image, tissue_of(image), region) for image, region in zip(images, allowed))
    return Standard.of((image.markers, image.values, tissue if region is None else tissue & region) for image, tissue, region in places)


def places_of(sources: Sequence[Source], config: VirtuesPretrainConfig, seed: int) -> NDArray[np.int64]:
    """(n, 3) int64 of (image, row, column): the sub-images or tiles of all images, so that an image weighs as many as it has.

    VirtuesError: no_crops, image_small.
    """
    found = []
    for number, source in enumerate(sources):
        if config.tiling == "greedy":
            corners = greedy_tiles(source.tissue, config.crop, min_tissue=config.min_tissue, allowed=source.allowed)
        else:
            size = min(config.subimage, *source.raw.shape[1:])
            rng = np.random.default_rng([seed, number])
            allowed = source.allowed
            corners = random_subimages(source.tissue, max(size, config.crop), config.subimages, config.min_tissue, rng, allowed)
        found.append(np.column_stack([np.full(len(corners), number), corners]))
    places = np.concatenate(found) if found else np.empty((0, 3), np.int64)
    if not len(places):
        said = f"No image has a place with {config.min_tissue:.0%} tissue for a crop."
        raise VirtuesError("no_crops", said, "Ask for less tissue or smaller crops, or check the tissue masks.")
    return places


@dataclass(frozen=True)
class Sample:
    """One masked crop. image: (C, h, w). markers: (C, E). mask: (C, H, W) bool, True = masked."""

    image: Tensor
    markers: Tensor
    mask: Tensor


class Batch:
    """Samples that pass through the network together, with the plan of their tokens."""

    def __init__(self, images: Sequence[Tensor], markers: Sequence[Tensor], masks: Sequence[Tensor], plan: TokenPlan) -> None:
        self.images, self.markers, self.masks, self.plan = list(images), list(markers), list(masks), plan

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Batch:
        masks = [s.mask for s in samples]
        plan = plan_tokens([len(m) for m in masks], (masks[0].shape[1], masks[0].shape[2]), masks)
        return cls([s.image for s in samples], [s.markers for s in samples], masks, plan)

    def to(self, device: torch.device) -> Batch:
        """The same on a device; Lightning calls it."""
        images, markers, masks = ([x.to(device, non_blocking=True) for x in part] for part in (self.images, self.markers, self.masks))
        return Batch(images, markers, masks, self.plan.to(device))


class Batches:
    """Batches of one epoch after the other: call it with the number of the epoch.

    Every sample depends on seed, epoch and its place in the epoch's order alone, whoever prepares it and whenever. Under DDP each process
    draws its own share of the same order, as a DistributedSampler gives it; the last batch is filled up from the start of the order.
    """

    def __init__(self, sources: Sequence[Source], places: NDArray[np.int64], config: VirtuesPretrainConfig) -> None:
        self.sources, self.places, self.config = sources, places, config
        self.size = min(config.batch, len(places))

    @property
    def world(self) -> tuple[int, int]:
        """(rank, processes)."""
        there = torch.distributed.is_available() and torch.distributed.is_initialized()
        return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if there else (0, 1)

    def steps(self, devices: int = 1) -> int:
        """Per epoch and process."""
        return max(1, -(-len(self.places) // (self.size * devices)))

    def __call__(self, epoch: int) -> Iterator[Batch]:
        rank, world = self.world
        order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.places))
        mine = np.arange(self.steps(world) * self.size * world)[rank::world].reshape(-1, self.size)
        jobs = [[(epoch, int(at), int(order[at % len(order)])) for at in batch] for batch in mine]
        if not self.config.workers:
            for batch in jobs:
                yield Batch.of([self.sample(*job) for job in batch])
            return
        with ThreadPoolExecutor(self.config.workers) as pool:
            # Two batches ahead: while the network has one, the next is ready and another being made.
            waiting = [[pool.submit(self.sample, *job) for job in batch] for batch in jobs[:2]]
            for number in range(len(jobs)):
                samples = [future.result() for future in waiting.pop(0)]
                if number + 2 < len(jobs):
                    waiting.append([pool.submit(self.sample, *job) for job in jobs[number + 2]])
                yield Batch.of(samples)

    def sample(self, epoch: int, at: int, place: int) -> Sample:
        """One crop, its channels thinned out, turned and masked."""
        config = self.config
        rng = np.random.default_rng([config.seed, epoch, at])
        number, row, col = self.places[place].tolist()
        source = self.sources[number]
        if config.tiling == "random":
            room = max(min(config.subimage, *source.raw.shape[1:]), config.crop) - config.crop
            row, col = row + int(rng.integers(room + 1)), col + int(rng.integers(room + 1))
        channels = kept_channels(rng, len(source.kept), config.keep_channels)
        crop = symmetry(source.crop(row, col, config.crop, channels), int(rng.integers(8)))
        grid = (config.crop // config.network.patch_size,) * 2
        mask = independent(rng, len(channels), grid, (config.mask_low, config.mask_high))
        return Sample(torch.from_numpy(crop), torch.from_numpy(source.embeddings[channels]), torch.from_numpy(mask))


def watched(sources: Sequence[Source], config: VirtuesPretrainConfig, most: int = 16) -> list[Batch]:
    """Batches of some crops, the same at every call: whole panels, not turned, masked as in training. For a curve of held-out loss."""
    places = places_of(sources, config, config.seed)
    rng = np.random.default_rng([config.seed, 2**31])
    grid, samples = (config.crop // config.network.patch_size,) * 2, []
    for number, row, col in places[np.sort(rng.permutation(len(places))[:most])].tolist():
        source = sources[number]
        mask = independent(rng, len(source.kept), grid, (config.mask_low, config.mask_high))
        samples.append(
            Sample(torch.from_numpy(source.crop(row, col, config.crop)), torch.from_numpy(source.embeddings), torch.from_numpy(mask))
        )
    return [Batch.of(samples[at : at + config.batch]) for at in range(0, len(samples), config.batch)]
