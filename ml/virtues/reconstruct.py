"""What the network paints where it sees nothing: masked crops, whole markers, whole tissues tile by tile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ml.virtues.masking import Mask, marker
from ml.virtues.model import Encoded, VirTues

F32 = NDArray[np.float32]


@torch.inference_mode()
def reconstruct(model: VirTues, crops: Sequence[F32], embeddings: Sequence[F32], masks: Sequence[Mask], batch: int = 8) -> list[F32]:
    """(C, h, w) of each crop, in the unit of the preprocessed crops. crops: (C, h, w) each, of one size; embeddings: (C, E); masks: True =
    masked."""
    device, found = next(model.parameters()).device, []
    for at in range(0, len(crops), batch):
        given = [[torch.as_tensor(x, device=device) for x in part[at : at + batch]] for part in (crops, embeddings, masks)]
        found += [p.float().cpu().numpy() for p in model(given[0], given[1], given[2])[1]]
    return found


@torch.inference_mode()
def reconstruct_markers(model: VirTues, crop: F32, embeddings: F32, which: Sequence[int] | None = None, batch: int = 8) -> F32:
    """(len(which), h, w): each of these channels (None: all), painted while it alone is masked. Only that channel is decoded."""
    device, size = next(model.parameters()).device, model.config.patch_size
    image, known = torch.as_tensor(crop, device=device), torch.as_tensor(embeddings, device=device)
    grid = (crop.shape[1] // size, crop.shape[2] // size)
    wanted, found = list(range(len(crop)) if which is None else which), []
    for at in range(0, len(wanted), batch):
        some = wanted[at : at + batch]
        masks = [torch.as_tensor(marker(len(crop), grid, c), device=device) for c in some]
        seen = model.encoder([image] * len(some), [known] * len(some), masks)
        only = Encoded(seen.summaries, tuple(tokens[c : c + 1] for tokens, c in zip(seen.tokens, some)))
        found += [p[0].float().cpu().numpy() for p in model.decoder(only)]
    return np.stack(found)
