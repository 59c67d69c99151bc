"""An image and a bank meet: which of its channels the network sees, and why the others are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.types import MultiplexImage
from ml.virtues.errors import VirtuesError
from ml.virtues.markers import MarkerBank
from ml.virtues.preprocess import Standard, empty_channels, preprocess, tissue_mask, upper_quantiles

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Usable:
    """The k channels of an image that the network sees.

    kept: (k,) int64 places in the image. names: of the channels; proteins: UniProt accession of each, embeddings: (k, E). upper, mean, std:
    (k,) of the preprocessing. dropped: (channel's name, why) of the others.
    """

    kept: NDArray[np.int64]
    names: tuple[str, ...]
    proteins: tuple[str, ...]
    embeddings: F32
    upper: F32
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    dropped: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Prepared(Usable):
    """Those channels with their pixels. raw: (k, h, w) float32 counts. tissue: (h, w) bool."""

    raw: F32
    tissue: NDArray[np.bool_]

    def seen(self, pad: int = 0) -> F32:
        """(k, h + 2 pad, w + 2 pad) as the network sees it; zeros are added to the raw counts, before they are standardised (spec 8)."""
        raw = np.pad(self.raw, ((0, 0), (pad, pad), (pad, pad))) if pad else self.raw
        return preprocess(raw, self.upper, self.mean, self.std)


def usable(
    image: MultiplexImage, proteins: Sequence[str | None], bank: MarkerBank, standard: Standard, inside: NDArray[np.bool_]
) -> Usable:
    """The channels whose protein the bank and the standardisation know and that carry a signal; each other one is named with why.

    proteins: accession per channel of the image, None where unknown. standard: of its data set, by channel name. inside: (h, w), the pixels
    that the 99th percentiles are taken of. VirtuesError: shape, no_known_marker (no protein known at all), no_channel_left, no_tissue.
    """
    if len(proteins) != len(image.markers):
        said = f"{len(proteins)} proteins are named for {len(image.markers)} channels."
        raise VirtuesError("shape", said, "Name one per channel, none where it is unknown.")
    chosen = bank.select([protein or None for protein in proteins])
    why = dict(chosen.dropped)
    upper = upper_quantiles(image.values, inside)
    empty = empty_channels(image.values, upper)
    known = set(standard.markers)
    for place in chosen.kept.tolist():
        if empty[place]:
            why[place] = "it carries no signal (its 99th percentile is zero, or it has one value only)"
        elif image.markers[place] not in known:
            why[place] = "the model has no mean and deviation of it in this data set"
    rows = [row for row, place in enumerate(chosen.kept.tolist()) if place not in why]
    kept = chosen.kept[rows]
    dropped = tuple((image.markers[place], why[place]) for place in sorted(why))
    if not rows:
        said = f"None of the {len(proteins)} channels can be used: {'; '.join(f'{name}: {one}' for name, one in dropped[:3])}."
        raise VirtuesError("no_channel_left", said, "Check the proteins of the channels, and that the image has a signal.")
    names = tuple(image.markers[place] for place in kept)
    mean, std = standard.rows(names)
    proteins_kept = tuple(chosen.proteins[row] for row in rows)
    return Usable(kept, names, proteins_kept, chosen.embeddings[rows], upper[kept], mean, std, dropped)


def tissue_of(image: MultiplexImage) -> NDArray[np.bool_]:
    """(h, w) bool: the image's own mask, else Otsu's of its channels."""
    return tissue_mask(image.values) if image.tissue is None else image.tissue


def prepare(image: MultiplexImage, proteins: Sequence[str | None], bank: MarkerBank, standard: Standard) -> Prepared:
    """The channels of an image that the network sees (`usable`), in its tissue. Arguments and errors as those of `usable`."""
    tissue = tissue_of(image)
    one = usable(image, proteins, bank, standard, tissue)
    return Prepared(raw=image.values[one.kept], tissue=tissue, **vars(one))
