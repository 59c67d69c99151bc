"""Bags of slides and what must hold before they are fitted or predicted; the order in which training sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.mica.config import MicaFitConfig, Modality
from ml.mica.errors import MicaError

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class MicaBag:
    """One slide of a patient.

    tiles: (n, tile_dim) float32 H&E vectors, or a function that reads them whenever they are needed (a cohort of full bags is larger than
    memory); None for a model of CODEX alone. codex: (P, codex_dim) float32, one token per marker; None for a model of H&E alone.
    markers: P names. encoder, codex_encoder: what made the tiles' vectors and the tokens; two are never mixed.
    """

    patient: str
    slide: str
    tiles: NDArray[Any] | Callable[[], NDArray[Any]] | None = None
    codex: NDArray[Any] | None = None
    markers: tuple[str, ...] = ()
    encoder: str = ""
    codex_encoder: str = ""

    def read_tiles(self) -> Floats:
        """(n, tile_dim) float32."""
        tiles = self.tiles() if callable(self.tiles) else self.tiles
        return np.ascontiguousarray(tiles, np.float32)

    def tokens(self, markers: Sequence[str]) -> Floats:
        """(P, codex_dim) float32 in the order of `markers`, picked by name."""
        tokens = np.asarray(self.codex, np.float32)
        if tuple(markers) != self.markers:
            tokens = tokens[[self.markers.index(m) for m in markers]]
        return np.ascontiguousarray(tokens)


@dataclass(frozen=True)
class MicaInputs:
    """What a model reads. tile_dim, codex_dim: None for the branch that it does not have. markers: order of the tokens."""

    tile_dim: int | None
    codex_dim: int | None
    markers: tuple[str, ...]
    encoder: str
    codex_encoder: str


def check_bags(bags: Sequence[MicaBag], modality: Modality, inputs: MicaInputs | None = None) -> tuple[MicaInputs, str]:
    """What the bags have in common, and a SHA-256 of all that they hold. inputs: what a fitted model reads; None: the first bag decides.

    Every bag is read once, before anything is computed. Raises MicaError: no_bags, slide_twice, tiles_absent, codex_absent, bag_shape,
    empty_bag, features_not_finite, dims_differ, encoder_differs, panel_mismatch.
    """
    if not bags:
        raise MicaError("no_bags", "There is no bag to work on.", "Choose slides that have features.", "bags")
    seen: set[str] = set()
    digest = sha256()
    for bag in bags:
        if bag.slide in seen:
            raise MicaError("slide_twice", f"The slide {bag.slide} is there twice.", "Give each slide once.", bag.slide)
        seen.add(bag.slide)
        tiles = _checked_tiles(bag) if modality != "codex" else None
        codex = _checked_codex(bag) if modality != "he" else None
        if inputs is None:
            inputs = MicaInputs(
                None if tiles is None else tiles.shape[1],
                None if codex is None else codex.shape[1],
                () if codex is None else bag.markers,
                "" if tiles is None else bag.encoder,
                "" if codex is None else bag.codex_encoder,
            )
        _check_same(bag, tiles, codex, inputs)
        digest.update(f"{bag.patient}\x1f{bag.slide}\x1f".encode())
        for array in (tiles, None if codex is None else bag.tokens(inputs.markers)):
            if array is not None:
                digest.update(array.data)
    assert inputs is not None
    return inputs, digest.hexdigest()


def _checked_tiles(bag: MicaBag) -> Floats:
    if bag.tiles is None:
        raise MicaError("tiles_absent", f"The slide {bag.slide} has no H&E bag.", "Extract its features, or fit CODEX alone.", bag.slide)
    return _finite(bag.read_tiles(), bag.slide, "H&E bag", "tile")


def _checked_codex(bag: MicaBag) -> Floats:
    if bag.codex is None:
        raise MicaError("codex_absent", f"The slide {bag.slide} has no CODEX bag.", "Make its map first, or fit H&E alone.", bag.slide)
    tokens = _finite(np.asarray(bag.codex, np.float32), bag.slide, "CODEX bag", "marker")
    if len(bag.markers) != len(tokens) or len(set(bag.markers)) != len(bag.markers):
        sentence = f"The CODEX bag of {bag.slide} has {len(tokens)} tokens and {len(set(bag.markers))} marker names."
        raise MicaError("bag_shape", sentence, "Give one name per token.", bag.slide)
    return tokens


def _finite(array: Floats, slide: str, what: str, row: str) -> Floats:
    if array.ndim != 2 or array.shape[1] == 0:
        sentence = f"The {what} of {slide} is {array.shape}; one vector per {row} was expected."
        raise MicaError("bag_shape", sentence, "Give rows and features.", slide)
    if not len(array):
        raise MicaError("empty_bag", f"The {what} of {slide} is empty.", "Check the tissue mask of the slide.", slide)
    if not np.isfinite(array).all():
        bad = ~np.isfinite(array).all(axis=1)
        sentence = f"The {what} of {slide} has {int(bad.sum())} rows that are no numbers, the first is row {int(bad.argmax())}."
        raise MicaError("features_not_finite", sentence, "Extract the features again, in fp32.", slide)
    return array


def _check_same(bag: MicaBag, tiles: Floats | None, codex: Floats | None, inputs: MicaInputs) -> None:
    for array, dim, what in ((tiles, inputs.tile_dim, "H&E bag"), (codex, inputs.codex_dim, "CODEX bag")):
        if array is not None and array.shape[1] != dim:
            sentence = f"The {what} of {bag.slide} has {array.shape[1]} features where {dim} were expected."
            raise MicaError("dims_differ", sentence, "Use one encoder for all slides.", bag.slide)
    for array, mine, wanted, what in (
        (tiles, bag.encoder, inputs.encoder, "H&E bag"),
        (codex, bag.codex_encoder, inputs.codex_encoder, "CODEX bag"),
    ):
        if array is not None and mine != wanted:
            sentence = f"The {what} of {bag.slide} was made by {mine or 'an unnamed encoder'}, not by {wanted or 'an unnamed encoder'}."
            raise MicaError("encoder_differs", sentence, "Use one encoder for all slides.", bag.slide)
    if codex is not None and set(bag.markers) != set(inputs.markers):
        absent, more = sorted(set(inputs.markers) - set(bag.markers)), sorted(set(bag.markers) - set(inputs.markers))
        sentence = f"The CODEX bag of {bag.slide} has another panel: {len(absent)} markers are absent and {len(more)} are not known"
        sentence += f" (e.g. {(absent + more)[0]})."
        raise MicaError("panel_mismatch", sentence, "Use maps of one panel.", bag.slide)


@dataclass(frozen=True)
class Scaling:
    """Mean and deviation per feature of the fitting slides: (tile_dim,) and (codex_dim,) float32; None for a branch that is not there."""

    tiles: tuple[Tensor, Tensor] | None
    codex: tuple[Tensor, Tensor] | None


def scaling(bags: Sequence[MicaBag], inputs: MicaInputs) -> Scaling:
    """Over all tiles and all tokens of the bags; a feature that does not vary keeps its unit."""
    return Scaling(
        None if inputs.tile_dim is None else _moments(inputs.tile_dim, (bag.read_tiles() for bag in bags)),
        None if inputs.codex_dim is None else _moments(inputs.codex_dim, (bag.tokens(inputs.markers) for bag in bags)),
    )


def _moments(dim: int, arrays: Iterator[Floats]) -> tuple[Tensor, Tensor]:
    """Streamed: the means are updated bag by bag, so that squares of large values are never subtracted from each other."""
    count, mean, spread = 0, np.zeros(dim), np.zeros(dim)
    for array in arrays:
        n, new = len(array), array.mean(axis=0, dtype=np.float64)
        spread += ((array - new) ** 2).sum(axis=0, dtype=np.float64) + (new - mean) ** 2 * count * n / (count + n)
        mean += (new - mean) * n / (count + n)
        count += n
    sd = np.sqrt(spread / count)
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(np.where(sd > 1e-6, sd, 1).astype(np.float32))


def model_input(bag: MicaBag, inputs: MicaInputs) -> tuple[Tensor | None, Tensor | None]:
    """(tiles (n, tile_dim), tokens (P, codex_dim)) as a network of these inputs takes them."""
    tiles = None if inputs.tile_dim is None else torch.from_numpy(bag.read_tiles())
    return tiles, None if inputs.codex_dim is None else torch.from_numpy(bag.tokens(inputs.markers))


class Batches:
    """One slide after the other: called with the number of an epoch it gives that epoch's order, which depends on the seed alone.

    Yields (tiles or empty, tokens or empty, interval (1,), censored (1,), entry interval (1,)). classes: (n,) of the balanced sampler, None
    for a plain shuffle. max_tiles: of each slide, drawn anew in every epoch.
    """

    def __init__(
        self,
        bags: Sequence[MicaBag],
        inputs: MicaInputs,
        targets: NDArray[np.int64],
        classes: NDArray[np.int64],
        config: MicaFitConfig,
        scale: Scaling | None,
        seed: int,
    ) -> None:
        self.bags, self.inputs, self.targets, self.classes = bags, inputs, torch.from_numpy(targets), classes
        self.config, self.scale, self.seed = config, scale, seed

    def __len__(self) -> int:
        return len(self.bags)

    def __call__(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.bags))
        if self.config.balanced_sampler:
            weight = 1 / np.bincount(self.classes)[self.classes]
            order = rng.choice(len(self.bags), len(self.bags), p=weight / weight.sum())
        for i in order:
            tiles, codex = model_input(self.bags[i], self.inputs)
            if tiles is not None and self.config.max_tiles is not None and len(tiles) > self.config.max_tiles:
                tiles = tiles[np.sort(rng.choice(len(tiles), self.config.max_tiles, replace=False))]
            if self.scale is not None:
                tiles, codex = _scaled(tiles, self.scale.tiles), _scaled(codex, self.scale.codex)
            empty = torch.empty(0)
            interval, censored, entry = self.targets[i].split(1)
            yield empty if tiles is None else tiles, empty if codex is None else codex, interval, censored, entry


def _scaled(x: Tensor | None, moments: tuple[Tensor, Tensor] | None) -> Tensor | None:
    return x if x is None or moments is None else (x - moments[0]) / moments[1]
