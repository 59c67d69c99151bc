"""Family "niche": a tissue as at most 16 weighted niches of 128 um, described by virtual proteins and fixed H&E descriptors.

A niche vector has three blocks: mean protein, within-niche spread of protein, mean morphology. Each dimension is
standardised by reference statistics, then each block is divided by the square root of its number of informative
dimensions, so that each block contributes equally to a squared distance whatever its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.transport.config import NicheConfig
from ml.transport.errors import TransportError
from ml.transport.lattice import DROPPED, niches_of
from ml.transport.medoids import k_medoids
from ml.types import NicheSet, TileGrid

BLOCKS = ("protein_mean", "protein_sd", "morphology")
# A dimension whose reference sd is at most this times max(1, |mean|) says nothing; dividing by it would only amplify rounding.
NEAR_CONSTANT = 1e-5


@dataclass(frozen=True)
class Niches:
    """All kept niches of one slide, in the units of the inputs (nothing scaled).

    protein_mean, protein_sd: (k, P) float32, mean and population sd over a niche's tiles (sd 0 for a single tile).
    morphology: (k, m) float32, mean over its tiles. boxes: (k, 4) float64 px0. tissue: (k,) float64 share of the niche.
    tile_niche: (n,) int64, niche of each tile of the grid, -1 where its niche was not kept.
    """

    protein_mean: NDArray[np.float32]
    protein_sd: NDArray[np.float32]
    morphology: NDArray[np.float32]
    boxes: NDArray[np.float64]
    tissue: NDArray[np.float64]
    tile_niche: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.boxes)

    def block(self, name: str) -> NDArray[np.float64]:
        """One of BLOCKS as (k, dim) float64."""
        values: NDArray[np.float64] = getattr(self, name).astype(np.float64)
        return values


@dataclass(frozen=True)
class NicheModel:
    """Reference statistics of a niche vector. means, sds: per block (dim,) float64, before scaling. n_tissues: reference tissues."""

    means: dict[str, NDArray[np.float64]]
    sds: dict[str, NDArray[np.float64]]
    config: NicheConfig
    n_tissues: int

    @property
    def dim(self) -> int:
        return sum(len(self.means[name]) for name in BLOCKS)

    def scale(self, name: str) -> NDArray[np.float64]:
        """(dim,) what the centred block is multiplied by: sqrt(weight / informative dims) / sd, and 0 for near-constant dimensions."""
        sd, mean = self.sds[name], self.means[name]
        informative = sd > NEAR_CONSTANT * np.maximum(1.0, np.abs(mean))
        share = getattr(self.config.weights, name) / max(int(informative.sum()), 1)
        return np.where(informative, np.sqrt(share) / np.where(informative, sd, 1.0), 0.0)

    @property
    def protein_reference(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(mean, sd) of the niches' mean proteins over the reference, each (P,), for `explain_match`."""
        return self.means["protein_mean"], self.sds["protein_mean"]

    def to_json(self) -> dict[str, Any]:
        """A dict that `json.dumps` takes; `from_json` gives the same model back, to the last digit."""
        return {
            "format": "niche-model/1",
            "config": self.config.model_dump(),
            "n_tissues": self.n_tissues,
            "blocks": {name: {"mean": self.means[name].tolist(), "sd": self.sds[name].tolist()} for name in BLOCKS},
        }

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> NicheModel:
        """Raises TransportError (model_format) where the dict is not what `to_json` writes."""
        try:
            if facts["format"] != "niche-model/1":
                raise ValueError(facts["format"])
            means = {name: np.asarray(facts["blocks"][name]["mean"], dtype=np.float64) for name in BLOCKS}
            sds = {name: np.asarray(facts["blocks"][name]["sd"], dtype=np.float64) for name in BLOCKS}
            if any(means[name].ndim != 1 or means[name].shape != sds[name].shape for name in BLOCKS):
                raise ValueError("shapes")
            return cls(means, sds, NicheConfig.model_validate(facts["config"]), int(facts["n_tissues"]))
        except (KeyError, TypeError, ValueError) as wrong:
            raise TransportError(
                "model_format", "This is not a niche model.", "Fit it again, or load the file that `to_json` wrote."
            ) from wrong


def _checked_tiles(values: NDArray[Any], n: int, what: str) -> NDArray[np.float64]:
    if values.ndim != 2 or len(values) != n:
        raise TransportError("shape", f"The {what} has shape {values.shape}; there are {n} tiles.", "Give one row per tile.", what)
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).any(axis=1).sum())
        raise TransportError("not_finite", f"The {what} of {bad} tiles has values that are not finite.", "Leave those tiles out.", what)
    return values.astype(np.float64)


def all_niches(grid: TileGrid, proteins: NDArray[np.float32], morphology: NDArray[np.float32], config: NicheConfig | None = None) -> Niches:
    """Every kept niche of a slide, unscaled. proteins: (n, P), morphology: (n, m), row i belongs to tile i of the grid.

    Raises TransportError: see `niches_of`; shape, not_finite, no_niche.
    """
    config = config or NicheConfig()
    tiles = [_checked_tiles(np.asarray(v), len(grid), what) for v, what in ((proteins, "proteins"), (morphology, "morphology"))]
    found = niches_of(grid, config.min_tissue, config.niche_um)
    if not len(found.boxes):
        sentence = f"None of the {found.n_found} niches has at least {config.min_tissue:.0%} tissue."
        raise TransportError("no_niche", sentence, "Check the tissue mask, or lower min_tissue.")
    order = np.argsort(found.tile_niche, kind="stable")
    order = order[found.tile_niche[order] != DROPPED]
    count = found.n_tiles
    start = np.cumsum(count) - count

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.add.reduceat(values, start, axis=0) / count[:, None]

    protein = tiles[0][order]
    protein_mean = mean(protein)
    spread = np.sqrt(mean((protein - np.repeat(protein_mean, count, axis=0)) ** 2))
    return Niches(
        protein_mean.astype(np.float32),
        spread.astype(np.float32),
        mean(tiles[1][order]).astype(np.float32),
        found.boxes,
        found.tissue,
        found.tile_niche,
    )


def fit(tissues: Sequence[Niches], config: NicheConfig | None = None) -> NicheModel:
    """Reference mean and sd of every dimension over tissues; each tissue counts once, however many niches it has.

    mean = average over tissues of the tissue's mean; sd^2 = average over tissues of its mean squared deviation from
    that mean. Near-constant dimensions (sd <= 1e-5 max(1, |mean|)) get scale 0 and contribute nothing.
    Raises TransportError: no_reference, dimension, no_variation (nothing tells the reference niches apart).
    """
    if not tissues:
        raise TransportError("no_reference", "There is no reference tissue.", "Fit on at least one tissue.")
    means, sds = {}, {}
    for name in BLOCKS:
        blocks = [tissue.block(name) for tissue in tissues]
        widths = sorted({b.shape[1] for b in blocks})
        if len(widths) > 1:
            sentence = f"The tissues have {' and '.join(map(str, widths))} dimensions in block {name}."
            raise TransportError("dimension", sentence, "Use tissues of one protein model and one descriptor set.")
        means[name] = np.mean([b.mean(axis=0) for b in blocks], axis=0)
        sds[name] = np.sqrt(np.mean([((b - means[name]) ** 2).mean(axis=0) for b in blocks], axis=0))
    model = NicheModel(means, sds, config or NicheConfig(), len(tissues))
    if not any(model.scale(name).any() for name in BLOCKS):
        sentence = "Nothing with a weight above 0 differs between the reference niches."
        raise TransportError("no_variation", sentence, "Fit on more tissues, and check the proteins and the block weights.")
    return model


def vectors(model: NicheModel, niches: Niches) -> NDArray[np.float32]:
    """(k, d) float32 block-scaled vectors, blocks in the order of BLOCKS. Raises TransportError (dimension)."""
    parts = []
    for name in BLOCKS:
        block = niches.block(name)
        if block.shape[1] != len(model.means[name]):
            sentence = f"Block {name} has {block.shape[1]} dimensions; the model was fitted on {len(model.means[name])}."
            raise TransportError("dimension", sentence, "Use the protein model that the niche model was fitted with.")
        parts.append((block - model.means[name]) * model.scale(name))
    return np.concatenate(parts, axis=1).astype(np.float32)


def summarise(scaled: NDArray[np.float32], boxes: NDArray[np.float64], config: NicheConfig) -> NicheSet:
    """At most max_medoids of these niches as a weighted set; a weight is the share of niches that the medoid represents."""
    medoids = k_medoids(scaled, config.max_medoids, config.seed)
    return NicheSet(scaled[medoids.members], medoids.weights, boxes[medoids.members])


def predict(
    model: NicheModel,
    grid: TileGrid,
    proteins: NDArray[np.float32],
    morphology: NDArray[np.float32],
    config: NicheConfig | None = None,
) -> NicheSet:
    """The retrieval set of a slide: at most max_medoids weighted medoids, real niches with boxes in px0.

    config: None takes the model's own; another one may change min_tissue, max_medoids and seed, but niche_um and the
    block weights are part of the model. Raises TransportError: config_mismatch, and those of `all_niches`, `vectors`.
    """
    config = config or model.config
    if (config.niche_um, config.weights) != (model.config.niche_um, model.config.weights):
        sentence = "The niche size or the block weights differ from those that the niche model was fitted with."
        raise TransportError("config_mismatch", sentence, "Fit a model with this config, or use the model's own.")
    niches = all_niches(grid, proteins, morphology, config)
    return summarise(vectors(model, niches), niches.boxes, config)
