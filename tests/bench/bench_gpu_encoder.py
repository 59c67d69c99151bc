"""From file to vector on a GPU: a ViT-L/16 over all tiles of a slide, beside the card's own measured matrix rate.

Run: python tests/bench/bench_gpu_encoder.py [--tiles 20000]
A ViT-L/16 at 224 px costs 61.6 GMAC per tile, so the floor is 2 * 61.6e9 / (measured bf16 rate) seconds per tile. The weights are random:
speed does not depend on them, and no vector of this run is kept. Without a GPU it says so and measures nothing.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

GMAC_PER_TILE = 61.6
PX, MPP = 224, 0.5
SIDE = 8192  # of the square matrices whose product measures the card


def matrix_rate(torch, seconds=2.0):
    """Multiply-adds per second (both counted: FLOP/s) of bf16 matrix products of SIDE x SIDE."""
    a, b = (torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    torch.cuda.synchronize()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(20):
            a @ b
        torch.cuda.synchronize()
        done += 20
    return done * 2 * SIDE**3 / (time.perf_counter() - start)


def slide_file(folder, tiles):
    """A JPEG-tiled pyramid of coloured noise with at least `tiles` tiles of 112 um."""
    import imagecodecs
    import tifffile

    side = 256
    across = int(np.ceil(np.sqrt(tiles) * PX / side)) + 1
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(16, side, side, 3)).cumsum(1).cumsum(2)
    drawn = [
        imagecodecs.jpeg8_encode(
            np.clip(170 + 25 * s / s.std(), 0, 255).astype(np.uint8), level=85, outcolorspace="ycbcr", subsampling="420"
        )
        for s in smooth
    ]
    path = Path(folder) / "slide.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(
            (drawn[int(i)] for i in rng.integers(0, len(drawn), across * across)),
            shape=(across * side, across * side, 3), dtype=np.uint8, tile=(side, side), compression="jpeg", photometric="rgb",
            compressionargs={"outcolorspace": "ycbcr"}, subsampling=(2, 2), resolution=(1e4 / MPP, 1e4 / MPP), resolutionunit="CENTIMETER",
            metadata=None,
        )  # fmt: skip
    return path, across * side


def encoder_of_random_weights():
    import timm
    import torch

    from ml.encoders.catalogue import encoder
    from ml.encoders.runtime import Encoder, _Forward

    spec = replace(encoder("uni"), name="ViT-L/16 of random weights")
    network = timm.create_model(spec.timm_name, pretrained=False, num_classes=0, **spec.timm_kwargs)
    return Encoder(spec, _Forward(network, spec, torch.device("cuda"), "bf16"), "cuda", "bf16", "")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=20_000)
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("No GPU here: not measured. The arithmetic floor of a ViT-L/16 tile is 2 x 61.6 GFLOP.")
        return
    from ml.slides.loader import TileSource, tile_batches
    from ml.types import TileGrid

    rate = matrix_rate(torch)
    print(f"{torch.cuda.get_device_name()}: {rate / 1e12:.0f} TFLOP/s measured in bf16 products of {SIDE} x {SIDE}")
    encode = encoder_of_random_weights()
    with tempfile.TemporaryDirectory() as folder:
        path, width = slide_file(folder, options.tiles)
        per_side = width // PX
        xy = np.stack(np.meshgrid(np.arange(per_side) * PX, np.arange(per_side) * PX), -1).reshape(-1, 2)[: options.tiles]
        grid = TileGrid(xy.astype(np.int64), float(PX), MPP, (width, width))
        ready = np.zeros((512, PX, PX, 3), np.uint8)
        encode(ready)
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(8):
            encode(ready)
        alone = 8 * len(ready) / (time.perf_counter() - start)
        start, read = time.perf_counter(), 0
        for batch in tile_batches([TileSource(path, grid, MPP)], PX, batch=512):
            read += len(batch.tiles)
        loader = read / (time.perf_counter() - start)
        start, done = time.perf_counter(), 0
        for batch in tile_batches([TileSource(path, grid, MPP)], PX, batch=512):
            done += len(encode(batch.tiles))
        whole = done / (time.perf_counter() - start)
    for name, speed in (("encoder alone", alone), ("loader alone", loader), ("file to vector", whole)):
        share = f", {2e9 * GMAC_PER_TILE * speed / rate:.0%} of the card's matrix rate (aim 60%)" if name != "loader alone" else ""
        print(f"{name:15s} {speed:8.0f} tiles/s{share}")


if __name__ == "__main__":
    main()
