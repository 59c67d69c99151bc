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
class Prepared:
    """What the network takes of one image.

    raw: (k, h, w) float32 counts of the channels kept. tissue: (h, w) bool. upper, mean, std: (k,) of the preprocessing. proteins: UniProt
    accession of each channel, embeddings (k, E). names: of the channels. dropped: (channel's name, why) of the others.
    """

    raw: F32
    tissue: NDArray[np.bool_]
    upper: F32
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    proteins: tuple[str, ...]
    names: tuple[str, ...]
    embeddings: F32
    dropped: tuple[tuple[str, str], ...]

    def seen(self, pad: int = 0) -> F32:
        """(k, h + 2 pad, w + 2 pad) as the network sees it; zeros are added to the raw counts, before they are standardised (spec 8)."""
        raw = np.pad(self.raw, ((0, 0), (pad, pad), (pad, pad))) if pad else self.raw
        return preprocess(raw, self.upper, self.mean, self.std)


def prepare(image: MultiplexImage, proteins: Sequence[str | None], bank: MarkerBank, standard: Standard) -> Prepared:
    """Keeps the channels whose protein the bank and the standardisation know and that carry a signal; each other one is named with why.

    proteins: accession per channel of the image, None where unknown. standard: of its data set, by channel name. The tissue is the
    image's own mask, else Otsu's of its channels. VirtuesError: shape, no_known_marker (no protein known at all), no_channel_left, no_tissue.
    """
    if len(proteins) != len(image.markers):
        said = f"{len(proteins)} proteins are named for {len(image.markers)} channels."
        raise VirtuesError("shape", said, "Name one per channel, none where it is unknown.")
    chosen = bank.select(proteins)
    why = dict(chosen.dropped)
    tissue = image.tissue if image.tissue is not None else tissue_mask(image.values)
    upper = upper_quantiles(image.values, tissue)
    empty = empty_channels(image.values, upper)
    known = set(standard.markers)
    place_of = {int(place): row for row, place in enumerate(chosen.kept)}
    for place in chosen.kept.tolist():
        if empty[place]:
            why[place] = "it carries no signal (its 99th percentile is zero, or it has one value only)"
        elif image.markers[place] not in known:
            why[place] = "the model has no mean and deviation of it in this data set"
    kept = [place for place in chosen.kept.tolist() if place not in why]
    dropped = tuple((image.markers[place], why[place]) for place in sorted(why))
    if not kept:
        said = f"None of the {len(proteins)} channels can be used: {'; '.join(f'{name}: {one}' for name, one in dropped[:3])}."
        raise VirtuesError("no_channel_left", said, "Check the proteins of the channels, and that the image has a signal.")
    names = tuple(image.markers[place] for place in kept)
    mean, std = standard.rows(names)
    return Prepared(
        raw=image.values[kept],
        tissue=tissue,
        upper=upper[kept],
        mean=mean,
        std=std,
        proteins=tuple(str(proteins[place]) for place in kept),
        names=names,
        embeddings=chosen.embeddings[[place_of[place] for place in kept]],
        dropped=dropped,
    )
