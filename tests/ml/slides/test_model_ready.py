"""Tiles become what torchvision's ToTensor and Normalize would make of them, without a transposition and into memory that exists."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as vision

from ml.slides.resample import model_ready, resize_tiles

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def tiles():
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


def test_the_values_are_torchvisions(tiles):
    expected = torch.stack([vision.normalize(vision.to_tensor(Image.fromarray(tile)), MEAN, STD) for tile in tiles])
    for given in (tiles, torch.from_numpy(tiles)):
        assert torch.allclose(model_ready(given, MEAN, STD), expected, atol=2e-6)
    again = model_ready(tiles[::-1].copy(), MEAN, STD)
    assert torch.allclose(model_ready(tiles, MEAN, STD, out=again), expected, atol=2e-6)
    assert torch.allclose(again, expected, atol=2e-6)


@pytest.mark.parametrize("side", [40.0, 64.0, 63.2, 51.7])
def test_resizing_is_pillows_to_two_grey_levels(tiles, side):
    by_torch, by_pillow = np.zeros((2, 5, 40, 40, 3), np.uint8)
    resize_tiles(tiles, side, by_torch, "torch")
    resize_tiles(tiles, side, by_pillow, "pillow")
    assert np.abs(by_torch.astype(int) - by_pillow).max() <= 2 and by_torch.std() > 10


def test_reading_slides_needs_no_torch():
    code = "import sys, ml.slides.reader, ml.slides.loader; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
