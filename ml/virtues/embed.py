"""An image to its representations: cells, niches, the tissue, and how much the network attends to each marker (spec 8).

Work is counted in crops and kept after every fiftieth of them, so that what was stopped goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ml.training.loop import Cancelled
from ml.transport.medoids import k_medoids
from ml.types import NicheSet
from ml.virtues.cells import CellSums, CellTokens, batches, crop_origins, cut
from ml.virtues.embed_config import VirtuesEmbedConfig
from ml.virtues.errors import VirtuesError
from ml.virtues.importance import attention_sums
from ml.virtues.model import VirTues
from ml.virtues.panel import Prepared

F32 = NDArray[np.float32]
Progress = Callable[[float, str], None]
Stop = Callable[[], bool]
CENTRAL = 4
STATE = "state.npz"


@dataclass(frozen=True)
class Embedding:
    """What an image is to VirTues. Lengths are px of the model's pitch.

    niches: (n, D) float32, mean patch summary of each kept crop; boxes: (n, 4) x, y, width, height; share: (n,) tissue of each. tissue:
    (D,) mean over all patch summaries of the kept crops. rho: (C, C, heads) attention sums of these crops (`importance` ranks markers
    by them). central: rows of `niches` of the central 4 x 4, empty where the image is smaller. cells: None without a cell mask.
    """

    niches: F32
    boxes: NDArray[np.float64]
    share: NDArray[np.float64]
    tissue: F32
    rho: NDArray[np.float64]
    central: NDArray[np.int64]
    cells: CellTokens | None


class Runner:
    """A network on a device with one panel: crops in, patch summaries out."""

    def __init__(self, model: VirTues, embeddings: F32, device: str = "auto", precision: str = "fp32") -> None:
        name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.device = torch.device(name)
        self.model = model.to(self.device).eval()
        self.embeddings = torch.from_numpy(embeddings).to(self.device)
        half = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
        self.half = half if self.device.type == "cuda" else None

    def summaries(self, crops: F32) -> F32:
        """(n, C, h, w) to (n, H, W, D) float32."""
        images = list(torch.from_numpy(crops).to(self.device))
        with torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None):
            found = self.model.encode(images, [self.embeddings] * len(images))
        return found.float().cpu().numpy()

    def attention(self, crop: F32) -> NDArray[np.float64]:
        """(C, C, heads) attention sums of one crop (C, h, w); zeros where the network has no attention across markers."""
        if self.model.config.first_marker_block < 0:
            return np.zeros((len(crop), len(crop), self.model.config.num_encoder_heads))
        with torch.inference_mode():
            found = self.model.encoder.first_marker_attention(torch.from_numpy(crop).to(self.device), self.embeddings)
        return attention_sums(found.float().cpu().numpy())


def niche_origins(height: int, width: int, crop: int) -> NDArray[np.int64]:
    """(n, 2) row and column of crops side by side, the last of each direction flush with the far edge (so it may overlap its neighbour).

    An image of exactly one crop gives one. VirtuesError: image_too_small.
    """
    return crop_origins(height, width, crop, crop)


def central_origins(height: int, width: int, crop: int) -> NDArray[np.int64]:
    """(16, 2) row and column of the central 4 x 4 crops; none where the image is smaller (VirTues, Methods, Retrieval)."""
    side = CENTRAL * crop
    if min(height, width) < side:
        return np.empty((0, 2), np.int64)
    top, left = (height - side) // 2, (width - side) // 2
    return np.array([(top + r * crop, left + c * crop) for r in range(CENTRAL) for c in range(CENTRAL)], np.int64)


def embed(
    model: VirTues,
    prepared: Prepared,
    mask: NDArray[Any] | None,
    config: VirtuesEmbedConfig,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    device: str = "auto",
) -> Embedding:
    """All representations of one image. mask: (h, w) cell labels or None. folder: where the state of half-done work is kept.

    A crop counts where at least min_tissue of it is tissue; the central ones always do. Raises Cancelled; VirtuesError: image_too_small,
    no_niches, no_cells.
    """
    height, width = prepared.raw.shape[1:]
    if config.crop_px % model.config.patch_size:
        said = f"A crop of {config.crop_px} px does not divide into patches of {model.config.patch_size} px."
        raise VirtuesError("shape", said, "Take a multiple of the patch.")
    work = _Work(Runner(model, prepared.embeddings, device, config.precision), config, folder, progress, stop)
    seen = prepared.seen()
    origins, share, central = _niche_crops(prepared.tissue, config)
    cells = CellSums(mask, model.config.model_dim) if mask is not None and config.cells else None
    pad = config.cell_pad_px
    spots = np.empty((0, 2), np.int64)
    if cells is not None:
        assert mask is not None
        cells.place = np.pad(cells.place, pad, constant_values=-1)
        spots = crop_origins(height + 2 * pad, width + 2 * pad, config.crop_px, config.cell_stride_px)
        spots = np.array([one for one in spots if cells.touches(one, config.crop_px)], np.int64)
    work.total = len(origins) + len(spots)
    niches, rho = work.niches(seen, origins, model.config.model_dim)
    if cells is not None:
        work.cells(prepared.seen(pad), spots, cells, model.config.patch_size)
    in_tissue = share >= config.min_tissue
    boxes = np.concatenate([origins[:, ::-1], np.full_like(origins, config.crop_px)], axis=1).astype(np.float64)
    return Embedding(
        niches, boxes, share, niches[in_tissue].mean(axis=0) if in_tissue.any() else niches.mean(axis=0), rho, central,
        None if cells is None else cells.result(),
    )  # fmt: skip


def retrieval_set(embedding: Embedding, config: VirtuesEmbedConfig) -> tuple[NicheSet, NDArray[np.int64]]:
    """The niches that stand for the tissue, boxes in px of the model's pitch, and their rows in `embedding.niches`.

    VirtuesError: no_central_niches where the image is smaller than the central 4 x 4 that the configuration asks for.
    """
    if config.retrieval_set == "central":
        if not len(embedding.central):
            said = f"The image is smaller than {CENTRAL * config.crop_px} px, so it has no central {CENTRAL} x {CENTRAL} niches."
            raise VirtuesError("no_central_niches", said, "Use weighted medoids, or leave this image out, as the paper does.")
        rows = embedding.central
        return NicheSet(embedding.niches[rows], np.full(len(rows), 1 / len(rows)), embedding.boxes[rows]), rows
    usable = np.flatnonzero(embedding.share >= config.min_tissue)
    medoids = k_medoids(embedding.niches[usable], config.max_medoids, config.seed)
    rows = usable[medoids.members]
    return NicheSet(embedding.niches[rows], medoids.weights, embedding.boxes[rows]), rows


def _niche_crops(tissue: NDArray[np.bool_], config: VirtuesEmbedConfig) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Origins of the crops to encode, their tissue shares, and which of them are the central ones."""
    size = config.crop_px
    origins = niche_origins(*tissue.shape, size)
    middle = central_origins(*tissue.shape, size) if config.retrieval_set == "central" else np.empty((0, 2), np.int64)

    def shares(of: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([tissue[r : r + size, c : c + size].mean() for r, c in of])

    share = shares(origins)
    origins, share = origins[share >= config.min_tissue], share[share >= config.min_tissue]
    if not len(origins):
        said = f"No crop of {size} px has at least {config.min_tissue:.0%} tissue."
        raise VirtuesError("no_niches", said, "Check the tissue of the image, or lower min_tissue.")
    place = {tuple(one): row for row, one in enumerate(origins.tolist())}
    extra = np.array([one for one in middle.tolist() if tuple(one) not in place], np.int64).reshape(-1, 2)
    place |= {tuple(one): len(origins) + row for row, one in enumerate(extra.tolist())}
    central = np.array([place[tuple(one)] for one in middle.tolist()], np.int64)
    return np.concatenate([origins, extra]), np.concatenate([share, shares(extra)]), central


class _Work:
    """The two passes over the crops, with progress, stopping and a state on disk."""

    def __init__(
        self, runner: Runner, config: VirtuesEmbedConfig, folder: Path | None, progress: Progress | None, stop: Stop | None
    ) -> None:
        self.runner, self.config, self.folder, self.progress, self.stop = runner, config, folder, progress, stop
        self.total = self.done = self.kept = 0
        self.state = self._read()

    def niches(self, seen: F32, origins: NDArray[np.int64], dim: int) -> tuple[F32, NDArray[np.float64]]:
        """(n, D) mean patch summary of every crop, and the attention sums over all of them."""
        channels, heads = len(seen), self.runner.model.config.num_encoder_heads
        vectors = self.state.get("vectors", np.zeros((len(origins), dim), np.float32))
        rho = self.state.get("rho", np.zeros((channels, channels, heads)))
        first = int(self.state.get("n_niches", 0))
        self.done = first
        for group in batches(origins[first:], self.config.batch):
            crops = cut(seen, group, self.config.crop_px)
            vectors[self.done : self.done + len(group)] = self.runner.summaries(crops).mean(axis=(1, 2))
            rho += np.sum([self.runner.attention(crop) for crop in crops], axis=0)
            self._step(len(group), lambda: {"vectors": vectors, "rho": rho, "n_niches": self.done})  # noqa: B023
        self.state |= {"vectors": vectors, "rho": rho, "n_niches": len(origins)}
        return vectors, rho

    def cells(self, seen: F32, spots: NDArray[np.int64], cells: CellSums, patch: int) -> None:
        """Adds every crop that holds a cell to the cells' sums."""
        first = int(self.state.get("n_spots", 0))
        if first:
            cells.sums, cells.weight = self.state["sums"], self.state["weight"]
        before = self.done
        self.done += first
        for group in batches(spots[first:], self.config.batch):
            for spot, summaries in zip(group, self.runner.summaries(cut(seen, group, self.config.crop_px))):
                cells.add(spot, summaries, patch)
            self._step(len(group), lambda: {**self.state, "sums": cells.sums, "weight": cells.weight, "n_spots": self.done - before})

    def _step(self, n: int, state: Callable[[], dict[str, Any]]) -> None:
        self.done += n
        if self.folder is not None and self.done - self.kept >= max(1, self.total // 50):
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f"{STATE}.part.npz"
            np.savez(part, **state())
            os.replace(part, self.folder / STATE)
            self.kept = self.done
        if self.progress is not None:
            self.progress(self.done / self.total, f"crop {self.done} of {self.total}")
        if self.stop is not None and self.stop():
            raise Cancelled("The embedding was cancelled.")

    def _read(self) -> dict[str, Any]:
        if self.folder is None or not (self.folder / STATE).is_file():
            return {}
        with np.load(self.folder / STATE) as file:
            return {name: file[name] for name in file.files}
