"""Applying an encoder: tiles in, one vector per tile out. Torch is imported only where a network is needed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml.encoders.catalogue import encoder
from ml.encoders.spec import EncoderError, EncoderSpec, Precision
from ml.slides.resample import PILLOW, TORCH, model_ready

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

Tiles = NDArray[np.uint8]
Vectors = NDArray[np.float32]

# Tiles per forward pass: a GPU is full at 256 ViT-L tiles; a CPU gains nothing beyond a few, and its memory stays flat.
INNER = {"cuda": 256, "cpu": 16}
HALVINGS = 2


class Encoder:
    """An encoder that is ready to use.

    Call it with (b, input_px, input_px, 3) uint8 RGB tiles of tile_um: (b, dim) float32. The same tiles give the same vectors.
    spec, name, dim, input_px, tile_um (um): see EncoderSpec. device, precision: where and how it computes.
    weights_sha256: of its weight file; of the definition for fixed descriptors. resizing: "torch" or "pillow" (ml.slides.resample), how
    its tiles are resized: torch is not imported for that alone.
    """

    def __init__(self, spec: EncoderSpec, run: Callable[[Tiles], Vectors], device: str, precision: Precision, weights_sha256: str) -> None:
        self.spec, self.device, self.precision, self.weights_sha256 = spec, device, precision, weights_sha256
        self.resizing = PILLOW if spec.weight_free else TORCH
        self._run = run

    name = property(lambda self: self.spec.name)
    dim = property(lambda self: self.spec.dim)
    input_px = property(lambda self: self.spec.input_px)
    tile_um = property(lambda self: float(self.spec.tile_um))

    def __call__(self, tiles: Tiles) -> Vectors:
        """See the class. Raises EncoderError: tile_shape, device_memory, not_finite."""
        tiles = np.asarray(tiles)
        px = self.spec.input_px
        if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[1:] != (px, px, 3):
            sentence = f"Encoder {self.name} takes tiles of {px} x {px} px, and these are {tiles.dtype} of shape {tiles.shape}."
            raise EncoderError("tile_shape", sentence, f"Read the tiles at {px} px, as (b, {px}, {px}, 3) uint8 RGB.")
        if not len(tiles):
            return np.empty((0, self.dim), np.float32)
        vectors = self._run(tiles)
        if vectors.shape != (len(tiles), self.dim):
            sentence = f"Encoder {self.name} gave vectors of shape {vectors.shape}; its entry says {self.dim} values per tile."
            raise EncoderError("vector_shape", sentence, "The entry of the catalogue does not fit the network.")
        if not np.isfinite(vectors).all():
            bad = int((~np.isfinite(vectors).all(axis=1)).sum())
            sentence = f"Encoder {self.name} gave values that are no numbers for {bad} of {len(tiles)} tiles in {self.precision}."
            raise EncoderError("not_finite", sentence, "Use precision bf16 or fp32.")
        return vectors


def load_encoder(
    name: str, weights: str | Path | None = None, device: str = "cpu", precision: Precision | None = None, root: Path | None = None
) -> Encoder:
    """The encoder of that name, ready to use.

    weights: its file; None looks into `<root>/<encoder>/` (root None: `$TISSUEBOARD_HOME/weights`), then at the hub where that is allowed.
    device: "cpu", "cuda", "cuda:1". precision: "fp32", "fp16" or "bf16"; None is the entry's own on a GPU and fp32 on a CPU.
    Raises EncoderError: unknown_encoder, untrained, weights_missing, weights_gated, weights_unreadable, weights_mismatch,
    hub_unreachable, no_device.
    """
    spec = encoder(name)
    if spec.weight_free:
        from ml.encoders.descriptors import describe, fingerprint

        return Encoder(spec, lambda tiles: describe(tiles, spec.mpp), "cpu", "fp32", fingerprint())
    from ml.encoders.networks import build_network
    from ml.encoders.weights import file_sha256, find_weights

    if not spec.needs_weights and weights is None:
        sentence = f"The encoder {spec.name} is trained together with its head; without weights its vectors would be noise."
        raise EncoderError("untrained", sentence, "Name its weight file, or choose another encoder.")
    place = _device(device)
    path = find_weights(spec, Path(weights) if weights is not None else None, root)
    chosen: Precision = precision or ("fp32" if place.type == "cpu" else spec.precision)
    network = build_network(spec, path)
    return Encoder(spec, _Forward(network, spec, place, chosen), device, chosen, file_sha256(path))


def _device(name: str) -> torch.device:
    import torch

    if name.startswith("cuda") and not torch.cuda.is_available():
        raise EncoderError("no_device", f"There is no device {name} here.", "Use device cpu.")
    return torch.device(name)


class _Forward:
    """Normalisation and network on one device, in batches that fit its memory."""

    def __init__(self, network: Any, spec: EncoderSpec, device: torch.device, precision: Precision) -> None:
        import torch

        self.spec, self.device = spec, device
        self.dtype = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
        self.network = network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self.kept = threading.local()
        self.inner = INNER[device.type] if device.type in INNER else INNER["cpu"]
        self.halvings = 0

    def __call__(self, tiles: Tiles) -> Vectors:
        import torch

        out = np.empty((len(tiles), self.spec.dim), np.float32)
        first = 0
        while first < len(tiles):
            block = tiles[first : first + self.inner]
            try:
                found = self._block(block)
            except torch.OutOfMemoryError:
                found = None  # only after this clause does the failed pass let go of its memory
            if found is None:
                self._smaller()
                continue
            if first == 0 and found.shape[1] != self.spec.dim:
                return found
            out[first : first + len(block)] = found
            first += len(block)
        return out

    def _block(self, tiles: Tiles) -> Vectors:
        import torch

        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            x = self._normalised(torch.from_numpy(np.ascontiguousarray(tiles)).to(self.device, non_blocking=True))
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
                vectors = self.network(x)
            found: Vectors = vectors.float().cpu().numpy()
            return found

    def _normalised(self, tiles: torch.Tensor) -> torch.Tensor:
        """(b, 3, px, px) float32 of (b, px, px, 3) uint8. On a CPU in memory that the next block of this thread is written over."""
        if self.device.type != "cpu":
            return model_ready(tiles, self.spec.mean, self.spec.std)
        room = getattr(self.kept, "room", None)
        if room is not None and len(room) >= len(tiles):
            return model_ready(tiles, self.spec.mean, self.spec.std, room[: len(tiles)])
        self.kept.room = model_ready(tiles, self.spec.mean, self.spec.std)
        return self.kept.room

    def _smaller(self) -> None:
        """Halves the batch for good after the device ran out of memory, twice at most."""
        import torch

        if self.halvings == HALVINGS or self.inner == 1:
            sentence = f"The device's memory does not hold {self.inner} tiles of encoder {self.spec.name}."
            raise EncoderError("device_memory", sentence, "End what else uses the device, or compute on the CPU.")
        self.halvings += 1
        self.inner = max(self.inner // 2, 1)
        torch.cuda.empty_cache()
        log.warning("%s: the device ran out of memory; going on with %d tiles at a time.", self.spec.name, self.inner)
