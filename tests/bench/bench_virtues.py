"""VirTues' encoder on the CPU (CPU seconds of one thread) beside the ways one would write it without packing; outputs compared.

Run: python tests/bench/bench_virtues.py [--layers 2]
Row 1: 40 markers, a crop of 128 px at the released width, whole forward: separate attention within a channel and across markers, beside
the same network with one dense attention over all (40 + 1) x 256 tokens under a mask that allows the same pairs. Both have the same weights
and the same blocks; the layers are a stack of pairs (spatial, marker), of which --layers are run (the released network has eight pairs,
all alike, so the ratio is that of a layer).
Row 2: eight samples of 5 to 40 markers in one batch, beside padding every panel to the largest with a key mask.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy starts
import argparse
import os
import sys
import time
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from table import table_row
from torch.nn.functional import gelu, scaled_dot_product_attention

from ml.nn.rotary import grid_tables
from ml.virtues.config import VirtuesConfig
from ml.virtues.model import VirTues

SIDE, MARKERS, REPEATS = 128, 40, 3
PANELS = (5, 8, 12, 15, 20, 25, 32, 40)
TOLERANCE = 1e-4


def block(one, x, mask, angles):
    """A block of ours over a dense (b, n, dim) batch with a boolean mask (query, key)."""
    normed = one.norm1(x)
    query, key, value = (part.transpose(1, 2) for part in one.attention.heads_of(normed, angles))
    out = scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
    x = x + one.attention.output(out)
    return x + one.contract(gelu(one.expand(one.norm2(x))))


def dense_forward(model, images, markers):
    """All tokens of one sample attend to all, under a mask; what a first implementation does."""
    encoder, grid = model.encoder, SIDE // model.config.patch_size
    x = encoder.all_tokens(images, markers, None)[None]
    place = torch.arange(x.shape[1]) % grid**2
    channel = torch.arange(x.shape[1]) // grid**2
    cos, sin = grid_tables(encoder.cos, encoder.sin, place // grid, place % grid)
    masks = {"h": channel[:, None] == channel[None], "v": place[:, None] == place[None]}
    for letter, one in zip(model.config.encoder_pattern, encoder.blocks):
        x = block(one, x, masks[letter], (cos[:, None], sin[:, None]) if letter == "h" else None)
    return encoder.norm(x[0, : grid**2]).unflatten(0, (grid, grid))[None]


def padded_forward(model, images, markers):
    """Panels padded to the largest; absent channels are masked as keys, and computed all the same."""
    encoder, grid = model.encoder, SIDE // model.config.patch_size
    most = max(len(image) for image in images) + 1
    x = torch.zeros(len(images), most, grid**2, model.config.model_dim)
    there = torch.zeros(len(images), most, dtype=torch.bool)
    for i, (image, embedding) in enumerate(zip(images, markers)):
        x[i, : len(image) + 1] = encoder.all_tokens([image], [embedding], None).unflatten(0, (len(image) + 1, grid**2))
        there[i, : len(image) + 1] = True
    place = torch.arange(grid**2)
    cos, sin = grid_tables(encoder.cos, encoder.sin, place // grid, place % grid)
    keys = there[:, None].expand(-1, grid**2, -1).flatten(0, 1)[:, None, None]
    for letter, one in zip(model.config.encoder_pattern, encoder.blocks):
        if letter == "h":
            x = block(one, x.flatten(0, 1), None, (cos[:, None], sin[:, None])).unflatten(0, (len(images), most))
        else:
            x = block(one, x.transpose(1, 2).flatten(0, 1), keys, None).unflatten(0, (len(images), grid**2)).transpose(1, 2)
    return encoder.norm(x[:, 0]).unflatten(1, (grid, grid))


def best(call):
    times, result = [], None
    for _ in range(REPEATS):
        start = time.process_time()  # of this one thread: what else the machine does is not counted
        result = call()
        times.append(time.process_time() - start)
    return min(times), result


def compare(path, beside, aim, ours, theirs):
    fast, got = best(ours)
    slow, wanted = best(theirs)
    difference = (got - wanted).abs().max().item()
    assert difference <= TOLERANCE, difference
    table_row(path, beside, f"{slow:.2f} s", f"{fast:.2f} s", f"{slow / fast:.1f}x", aim, f"largest difference {difference:.0e}")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=2, help="pairs of layers (the released network has 8)")
    pairs = parser.parse_args().layers
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = VirTues(VirtuesConfig(encoder_pattern="hv" * pairs)).eval()
    edge = model.config.marker_embedding_dim
    samples = {n: (torch.randn(n, SIDE, SIDE), torch.randn(n, edge) / 4) for n in {*PANELS, MARKERS}}
    one = ([samples[MARKERS][0]], [samples[MARKERS][1]])
    compare(
        f"VirTues encoder, {MARKERS} markers, {SIDE} px, {2 * pairs} blocks", "dense attention of the same model, masked", ">= 4x",
        lambda: model.encode(*one), lambda: dense_forward(model, *one),
    )  # fmt: skip
    many = ([samples[n][0] for n in PANELS], [samples[n][1] for n in PANELS])
    compare(
        f"ragged panels ({', '.join(map(str, PANELS))} markers) in one batch, {2 * pairs} blocks", "pad to the largest and mask", ">= 1.7x",
        lambda: model.encode(*many), lambda: padded_forward(model, *many),
    )  # fmt: skip


if __name__ == "__main__":
    main()
