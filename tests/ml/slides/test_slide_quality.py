"""Focus falls with every blur, stain figures follow the stain, and limits become warnings that never block."""

import numpy as np
import pytest
from scipy import ndimage

from ml.slides.findings import FindingCode as Code
from ml.slides.quality import MAX_TILES, slide_quality, stain_densities, tile_focus
from ml.slides.quality_limits import FOCUS_AT_LEAST, MEANING, quality_findings
from ml.slides.reader import open_slide
from ml.slides.tissue import tissue_mask

WHITE = np.full(3, 255.0, np.float32)


def tissue_like(n=6, side=224, seed=0, contrast=1.0):
    """Tiles with detail at all scales (1 / frequency), (n, side, side, 3) uint8."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1.0
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, side, side))) / frequency).real
    noise = noise / noise.std(axis=(1, 2), keepdims=True)
    picture = np.array([200.0, 140.0, 180.0]) + contrast * noise[..., None] * np.array([15.0, 25.0, 12.0])
    return picture.clip(0, 255).astype(np.uint8)


def blurred(tiles, sigma):
    return np.rint(ndimage.gaussian_filter(tiles.astype(np.float32), (0, sigma, sigma, 0))).clip(0, 255).astype(np.uint8)


def test_focus_falls_with_every_blur_in_every_tile():
    tiles = tissue_like()
    scores = np.stack([tile_focus(blurred(tiles, sigma) if sigma else tiles, 0.5) for sigma in (0, 0.5, 1, 1.5, 2, 3)])
    assert scores.dtype == np.float32 and scores.shape == (6, 6) and (np.diff(scores, axis=0) < 0).all()
    assert (scores[0] > FOCUS_AT_LEAST).all() and (scores[4] < FOCUS_AT_LEAST).all()


def test_focus_does_not_hang_on_contrast_or_on_um_per_px():
    tiles = tissue_like()
    pale = tile_focus(tissue_like(contrast=0.5), 0.5)
    assert pale == pytest.approx(tile_focus(tiles, 0.5), rel=0.12)
    twice = np.repeat(np.repeat(tiles, 2, axis=1), 2, axis=2)
    assert tile_focus(twice, 0.25) == pytest.approx(tile_focus(tiles, 0.5), rel=0.05)


def test_what_cannot_be_judged_says_so():
    assert np.isnan(tile_focus(tissue_like(2), 1.0)).all()
    assert (tile_focus(np.full((2, 64, 64, 3), 200, np.uint8), 0.5) == 0).all()


def stained(h, e, n=20_000, seed=0):
    """Pixels of a mixture of haematoxylin and eosin with these largest densities."""
    rng = np.random.default_rng(seed)
    stains = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
    amounts = rng.random((n, 2)) ** 2 * [h, e] + 0.02
    amounts[rng.random(n) < 0.3, 0] = 0.02
    return (255 * np.exp(-(amounts @ stains / np.linalg.norm(stains, axis=1).mean()))).astype(np.uint8)


def test_stain_densities_follow_the_stain():
    weak, usual, strong = (stain_densities(stained(h, e), WHITE) for h, e in ((0.8, 0.6), (1.9, 1.0), (3.5, 1.0)))
    assert weak[0] < usual[0] < strong[0] and usual[0] == pytest.approx(1.9, rel=0.2) and usual[1] == pytest.approx(1.0, rel=0.3)
    assert stain_densities(np.full((5000, 3), 250, np.uint8), WHITE) is None


def write_tissue(path, make_pyramid, make_picture, sigma=0.0, fade=1.0):
    """A slide of the drawn tissue with detail in it; blurred, or faded towards the glass."""
    picture = make_picture(1400, 1100).astype(np.float32)
    texture = np.tile(tissue_like(1, 256)[0].astype(np.float32) - [200, 140, 180], (5, 6, 1))[:1100, :1400]
    picture = np.where(picture.mean(axis=2, keepdims=True) < 230, picture + texture, picture)
    picture = 245 - fade * (245 - picture)
    return make_pyramid(path, ndimage.gaussian_filter(picture, (sigma, sigma, 0)).clip(0, 255).astype(np.uint8))


def judged(path, stain="H&E"):
    with open_slide(path) as slide:
        quality = slide_quality(slide, tissue_mask(slide), stain)
    findings = quality_findings(quality, path.name)
    assert all(f.severity == "warning" and f.sentence.endswith(".") and f.hint.endswith(".") for f in findings)
    return quality, {f.code for f in findings}


def test_a_blurred_slide_gets_a_warning_and_a_sharp_one_none(tmp_path, make_pyramid, make_picture):
    sharp, codes = judged(write_tissue(tmp_path / "a.tif", make_pyramid, make_picture))
    assert sharp.blurred_share == 0 and Code.OUT_OF_FOCUS not in codes and 0 < sharp.tiles <= MAX_TILES
    soft, codes = judged(write_tissue(tmp_path / "b.tif", make_pyramid, make_picture, sigma=3))
    assert soft.blurred_share > 0.5 and soft.focus < sharp.focus and Code.OUT_OF_FOCUS in codes


def test_a_faded_slide_is_weakly_stained(tmp_path, make_pyramid, make_picture):
    path = write_tissue(tmp_path / "a.tif", make_pyramid, make_picture, fade=0.4)
    quality, codes = judged(path)
    assert Code.STAIN_WEAK in codes and quality.glass > 230
    other, codes = judged(path, stain="IHC CD8")
    assert (other.haematoxylin, other.eosin, other.h_to_e) == (None, None, None) and Code.STAIN_WEAK not in codes


def test_a_slide_without_tissue_is_not_judged(tmp_path, make_pyramid):
    quality, codes = judged(make_pyramid(tmp_path / "a.tif", np.full((600, 600, 3), 240, np.uint8)))
    assert quality.tiles == 0 and quality.focus is None and codes == set()


def test_every_figure_has_its_meaning(tmp_path, pyramid):
    with open_slide(pyramid) as slide:
        assert set(slide_quality(slide, tissue_mask(slide)).to_dict()) == set(MEANING)
