"""Descriptors of tiles drawn by Beer-Lambert from known nuclei, and how little the strength of the stain enters."""

import numpy as np
import pytest

from ml.slides.morphology import EOSIN, HEMATOXYLIN, MORPHOLOGY, MorphologyError, StainScale, stain_scale, tile_morphology, unmix

SIDE, MPP = 112, 0.5
STAINS = np.stack([np.array(v) / np.linalg.norm(v) for v in (HEMATOXYLIN, EOSIN)])
Y, X = np.mgrid[:SIDE, :SIDE]


def picture(hematoxylin, eosin):
    """(..., S, S) amounts in optical density -> uint8 RGB."""
    density = np.stack([hematoxylin, eosin], axis=-1) @ STAINS
    return np.clip(np.round(255 * 10**-density), 0, 255).astype(np.uint8)


def tile(nuclei, radius=5.0, eosin=0.3, lumen=0):
    """Amounts (H, E) of a tile with round nuclei at pixel centres (x, y) and a white strip of lumen pixel rows."""
    h, e = np.full((SIDE, SIDE), 0.06), np.full((SIDE, SIDE), eosin)
    for x, y in nuclei:
        h[(X - x) ** 2 + (Y - y) ** 2 <= radius**2] = 0.9
    h[:lumen], e[:lumen] = 0, 0
    return h, e


def lattice(per_side):
    step = SIDE / per_side
    return [((i + 0.5) * step, (j + 0.5) * step) for i in range(per_side) for j in range(per_side)]


def tissue(n=24, seed=0):
    """(n, S, S) H and E of tiles with nuclei, eosin and lumen that differ between tiles, with noise."""
    rng = np.random.default_rng(seed)
    tiles = [
        tile(rng.uniform(8, SIDE - 8, size=(rng.integers(3, 60), 2)), rng.uniform(3, 7), rng.uniform(0.15, 0.5), int(rng.integers(0, 40)))
        for _ in range(n)
    ]
    h, e = (np.stack(v) for v in zip(*tiles, strict=True))
    return h * rng.uniform(0.85, 1.15, size=h.shape), e * rng.uniform(0.85, 1.15, size=e.shape)


def described(images, scale=None):
    values = tile_morphology(images, scale, MPP)
    return {name: values[:, i] for i, name in enumerate(MORPHOLOGY)}


SCALE = StainScale(0.9, 0.3)


def test_unmixing_gives_back_what_was_mixed():
    h, e = tissue(4)
    found_h, found_e = unmix(picture(h, e))
    assert np.abs(found_h - h).mean() < 0.01 and np.abs(found_e - e).mean() < 0.01


def test_nuclei_are_counted_and_measured():
    for per_side in (3, 5, 7):
        told = described(picture(*tile(lattice(per_side)))[None], SCALE)
        count = told["nuclear_density"][0] * (SIDE * MPP) ** 2 / 1000
        assert count == pytest.approx(per_side**2)
        assert told["nuclear_share"][0] == pytest.approx(per_side**2 * np.pi * 25 / SIDE**2, rel=0.15)


def test_a_tile_of_plain_stroma_has_no_nuclei_and_no_lumen():
    told = described(picture(*tile([]))[None], SCALE)
    assert told["nuclear_share"][0] == 0 and told["nuclear_density"][0] == 0 and told["lumen_share"][0] == 0
    assert told["eosin_mean"][0] == pytest.approx(1, abs=0.03) and told["eosin_sd"][0] == pytest.approx(0, abs=0.01)


def test_lumen_is_the_unstained_share():
    told = described(picture(*tile([], lumen=28))[None], SCALE)
    assert told["lumen_share"][0] == pytest.approx(0.25, abs=0.01)


def test_stripes_have_a_direction_and_noise_has_none():
    stripes = np.where((X + Y) % 12 < 6, 0.5, 0.1)
    noise = np.random.default_rng(0).uniform(0.1, 0.5, size=(SIDE, SIDE))
    told = described(picture(np.full((2, SIDE, SIDE), 0.1), np.stack([stripes, noise])), SCALE)
    assert told["orientation_coherence"][0] > 0.95
    assert told["orientation_coherence"][1] < 0.15


def test_texture_tells_fine_from_coarse():
    def checks(size):
        return np.where((X // size + Y // size) % 2, 0.5, 0.1)

    told = described(picture(np.full((2, SIDE, SIDE), 0.1), np.stack([checks(5), checks(14)])), SCALE)
    assert told["texture_fine"][0] > 1.5 * told["texture_fine"][1]
    assert told["texture_coarse"][1] > 1.5 * told["texture_coarse"][0]


@pytest.mark.parametrize("strength_h, strength_e", [(0.7, 0.7), (1.25, 1.25), (0.75, 1.25), (1.25, 0.75)])
def test_a_stronger_or_weaker_stain_changes_the_descriptors_little(strength_h, strength_e):
    h, e = tissue()
    images, restained = picture(h, e), picture(h * strength_h, e * strength_e)
    reference = tile_morphology(images)
    spread = reference.std(axis=0)
    change = np.abs(tile_morphology(restained) - reference).mean(axis=0) / spread
    unnormalised = np.abs(tile_morphology(restained, stain_scale(images)) - reference).mean(axis=0) / spread
    assert change.max() < 0.15
    assert change.mean() < unnormalised.mean() / 5


@pytest.mark.realdata
def test_on_a_real_slide_the_strength_of_the_stain_enters_little(data):
    openslide = pytest.importorskip("openslide")
    with openslide.OpenSlide(data / "wsi" / "cmu-1-small-region.svs") as slide:
        region = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    rows, columns = region.shape[0] // SIDE, region.shape[1] // SIDE
    images = region[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)
    images = images[images.mean(axis=(1, 2, 3)) < 215]
    rest = np.cross(*STAINS)
    stains = np.vstack([STAINS, rest / np.linalg.norm(rest)])
    amounts = -np.log10(np.maximum(images, 1) / 255) @ np.linalg.inv(stains)
    reference = tile_morphology(images)
    for strengths in ((0.7, 0.7), (0.8, 1.2), (1.2, 0.8)):
        density = (amounts * [*strengths, 1.0]) @ stains
        restained = np.clip(np.round(255 * 10**-density), 0, 255).astype(np.uint8)
        change = np.abs(tile_morphology(restained) - reference).mean(axis=0) / reference.std(axis=0)
        assert change.max() < 0.2


def test_tiles_are_described_one_by_one():
    h, e = tissue(40)
    images = picture(h, e)
    scale = stain_scale(images)
    together = tile_morphology(images, scale)
    assert together.shape == (40, 10) and together.dtype == np.float32
    for i in (0, 31, 32, 39):  # around the border of a block
        assert tile_morphology(images[i : i + 1], scale)[0] == pytest.approx(together[i], rel=1e-4, abs=1e-5)


def test_glass_is_described_as_glass():
    told = described(np.full((2, SIDE, SIDE, 3), 253, np.uint8))
    assert told["lumen_share"].tolist() == [1, 1] and told["nuclear_density"].tolist() == [0, 0]
    assert tile_morphology(np.zeros((0, SIDE, SIDE, 3), np.uint8), SCALE).shape == (0, 10)


@pytest.mark.parametrize(
    "images, mpp, code",
    [
        (np.zeros((2, 8, 8, 3), np.float32), 0.5, "shape"),
        (np.zeros((8, 8, 3), np.uint8), 0.5, "shape"),
        (np.zeros((2, 8, 9, 3), np.uint8), 0.5, "shape"),
        (np.zeros((2, 8, 8, 3), np.uint8), 4.0, "mpp"),
        (np.zeros((2, 8, 8, 3), np.uint8), 0.0, "mpp"),
    ],
)
def test_images_that_cannot_be_described_are_refused(images, mpp, code):
    with pytest.raises(MorphologyError) as refused:
        tile_morphology(images, mpp=mpp)
    assert refused.value.code == code
