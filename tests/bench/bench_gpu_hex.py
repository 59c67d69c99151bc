"""HEX on MUSK's tower at 384 px on a GPU: tiles per second of inference in fp16, and steps per second of the published recipe.

Run: python tests/bench/bench_gpu_hex.py [--tiles 4096] [--steps 30]
The weights are random: speed does not depend on them. One tile costs about 191 GMAC (577 tokens, 24 layers of width 1024). Without a GPU it
says so and measures nothing.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from bench_gpu_encoder import matrix_rate

TOKENS, WIDTH, LAYERS, FFN = 577, 1024, 24, 4096
GMAC_PER_TILE = LAYERS * TOKENS * (4 * WIDTH**2 + 2 * WIDTH * FFN + 2 * TOKENS * WIDTH) / 1e9


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print(f"No GPU here: not measured. The arithmetic of a tile is 2 x {GMAC_PER_TILE:.0f} GFLOP.")
        return
    from ml.encoders.catalogue import architecture, encoder
    from ml.hex.config import HexFitConfig, HexPredictConfig
    from ml.hex.lightning_module import HexTraining
    from ml.hex.model import HexHead, HexModel
    from ml.hex.predict import run_model
    from ml.hex.views import Batches
    from ml.training.loop import run_loop

    rate = matrix_rate(torch)
    print(f"{torch.cuda.get_device_name()}: {rate / 1e12:.0f} TFLOP/s measured in bf16 products")
    config = HexFitConfig.released(fds_start_smooth=1, max_seconds=600.0)
    spec = encoder("musk")
    model = HexModel(architecture("musk"), HexHead(spec.dim, len(config.markers)), spec).cuda()
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 255, (min(options.tiles, 512), spec.input_px, spec.input_px, 3), dtype=np.uint8)
    predict = HexPredictConfig(batch=128, precision="fp16")
    run_model(model, tiles[:128], predict)
    torch.cuda.synchronize()
    start, done = time.perf_counter(), 0
    while done < options.tiles:
        run_model(model, tiles, predict)
        done += len(tiles)
    speed = done / (time.perf_counter() - start)
    print(f"inference fp16, pixels in memory to proteins: {speed:.0f} tiles/s, {2e9 * GMAC_PER_TILE * speed / rate:.0%} of the matrix rate")
    labels = rng.random((len(tiles), len(config.markers)), dtype=np.float32)
    batches = Batches(tiles, labels, np.arange(len(tiles)), config, 0)
    zero, one = torch.zeros(len(config.markers)), torch.ones(len(config.markers))
    per_epoch = batches.steps()
    epochs = -(-options.steps // per_epoch)
    module = HexTraining(model.cpu(), config, zero, one, options.steps, per_epoch)
    found = run_loop(module, batches, per_epoch, epochs=epochs, total=options.steps, precision=config.precision, clip=None, seed=0)
    print(
        f"training fp16, batch {config.batch}, last 4 blocks, FDS and ALF, released views on one process: "
        f"{found.steps / found.seconds:.2f} steps/s, peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    )


if __name__ == "__main__":
    main()
