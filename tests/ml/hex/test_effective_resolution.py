"""A map that follows every tile resolves one step; one that is blurred resolves more; noise resolves nothing."""

import numpy as np
import pytest
from scipy import ndimage

from ml.hex.resolution import effective_resolution

STEP = 56.0


@pytest.fixture
def tissue():
    """Three slides of 20 x 20 tiles, five markers, rough texture."""
    rng = np.random.default_rng(5)
    truth = rng.random((3, 20, 20, 5))
    row, col = np.mgrid[0:20, 0:20]
    xy = np.tile(np.stack([col.ravel(), row.ravel()], axis=1) * STEP, (3, 1))
    slides = np.repeat(["a", "b", "c"], 400)
    return truth, xy, slides, rng


def flat(cubes):
    return cubes.reshape(-1, cubes.shape[-1])


def test_a_faithful_map_resolves_its_own_step(tissue):
    truth, xy, slides, rng = tissue
    found = effective_resolution(flat(truth) + rng.normal(0, 0.05, flat(truth).shape), flat(truth), xy, slides, STEP)
    assert found.um == STEP and found.curve[0][1] > 0.9
    assert found.curve[0][2] == 3 * 2 * 20 * 19


def test_a_blurred_map_resolves_only_larger_distances(tissue):
    truth, xy, slides, _ = tissue
    smooth = ndimage.gaussian_filter(truth, (0, 4, 4, 0)) * 40
    rough = smooth + truth
    found = effective_resolution(flat(smooth), flat(rough), xy, slides, STEP)
    assert found.um > STEP
    assert [r for _, r, _ in found.curve] == sorted(r for _, r, _ in found.curve)


def test_noise_resolves_nothing_and_slides_are_not_mixed(tissue):
    truth, xy, slides, rng = tissue
    found = effective_resolution(rng.random(flat(truth).shape), flat(truth), xy, slides, STEP)
    assert found.um is None
    one = effective_resolution(flat(truth), flat(truth), xy, np.array([str(i) for i in range(1200)]), STEP)
    assert one.um is None and one.curve == ()


def test_order_of_tiles_does_not_matter(tissue):
    truth, xy, slides, rng = tissue
    shuffled = rng.permutation(len(slides))
    a = effective_resolution(flat(truth), flat(truth), xy, slides, STEP)
    b = effective_resolution(flat(truth)[shuffled], flat(truth)[shuffled], xy[shuffled], slides[shuffled], STEP)
    assert a == b
