"""Reconstruction is measured on masked pixels alone, beside baselines that read no masked pixel; staining is reconstruction of a marker."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from ml.virtues.baselines import Partners, nearest_patch, partner, visible_mean
from ml.virtues.errors import VirtuesError
from ml.virtues.evaluate import METHODS, Crop, crops_of, evaluate
from ml.virtues.masking import independent, marker
from ml.virtues.pretrain_config import MASKINGS, VirtuesEvaluateConfig, VirtuesStainConfig
from ml.virtues.reconstruct import reconstruct, reconstruct_markers
from ml.virtues.staining import check_stain, stain


@pytest.fixture(scope="module")
def crops(trained):
    return [c for c in crops_of(trained.held_out, 32) if len(c.names) == 6], crops_of(trained.fitted, 32)


@pytest.fixture(scope="module")
def found(trained, crops):
    return evaluate(trained.model, *crops, VirtuesEvaluateConfig(bootstrap=50))


def test_something_is_told_under_every_masking_and_a_marker_by_its_partner(found):
    for masking in MASKINGS:
        r = {method: float(np.nanmean(found[masking].within(method))) for method in METHODS}
        assert r["network"] > 0.1 and r["visible mean"] == pytest.approx(0, abs=1e-9), masking
    assert np.nanmean(found["marker"].r("partner")) > 0.9, "two markers count the same pattern"
    assert np.allclose(found["marker"].r("visible mean"), 0) and np.nansum(found["marker"].f1("visible mean")) == 0


def test_figures_are_those_of_numpy_on_the_masked_pixels(trained, crops):
    held, _ = crops
    config = VirtuesEvaluateConfig(maskings=("niche",), bootstrap=1)
    figures = evaluate(trained.model, held[:2], crops[1], config)["niche"]
    told, truth = [], []
    for i, crop in enumerate(held[:2]):
        from ml.virtues.masking import niche

        mask = niche(np.random.default_rng([config.seed, 0, i]), 6, (4, 4))
        painted = reconstruct(trained.model, [crop.values], [crop.embeddings], [mask])[0]
        pixels = mask.repeat(8, axis=1).repeat(8, axis=2)
        told.append(painted[2][pixels[2]])
        truth.append(crop.values[2][pixels[2]])
    x, y = np.concatenate(told), np.concatenate(truth)
    assert figures.r("network")[2] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
    assert figures.f1("network")[2] == pytest.approx(f1_score(y > 0, x > 0), abs=1e-6)
    a, b = (np.concatenate([part - part.mean() for part in parts]) for parts in (told, truth))
    assert figures.within("network")[2] == pytest.approx((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()), abs=1e-6)


def test_the_draws_are_of_units_and_a_unit_brings_all_its_crops(found):
    figures = found["independent"]
    draws = figures.draws()
    for unit in set(figures.units):
        mine = draws[:, [i for i, u in enumerate(figures.units) if u == unit]]
        assert (mine == mine[:, :1]).all()
    summary = figures.summary()
    assert len(summary["r"]["network"]["draws"]) == 50 and summary["units"] == len(set(figures.units))
    everything = np.ones((1, len(figures.units)))
    assert np.allclose(figures.r("network", everything)[0], figures.r("network"))


def test_no_baseline_reads_a_masked_pixel(crops):
    crop, known = crops[0][0], Partners.of([(c.names, c.values) for c in crops[1]])
    mask = independent(np.random.default_rng(0), 6, (4, 4))
    pixels = mask.repeat(8, axis=1).repeat(8, axis=2)
    other = np.where(pixels, 1e6, crop.values).astype(np.float32)
    for name, method in (("mean", visible_mean), ("nearest", nearest_patch), ("partner", lambda v, m: partner(v, m, crop.names, known))):
        one, two = (np.where(pixels, method(v, mask), 0) for v in (crop.values, other))
        if name != "nearest":
            assert np.allclose(one, two), name
    assert np.allclose(nearest_patch(crop.values, mask)[pixels], nearest_patch(other, mask)[pixels])


def test_partners_are_found_and_regressed_as_numpy_does(crops):
    known = Partners.of([(c.names, c.values) for c in crops[1]])
    whole = [c for c in crops[1] if len(c.names) == 6]
    x, y = (np.concatenate([c.values[i].ravel() for c in whole]) for i in (4, 5))
    i, j = known.names.index("VIM"), known.names.index("CK")
    slope, level = np.polyfit(y.astype(float), x.astype(float), 1)
    assert known.r[i, j] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
    assert (known.slope[i, j], known.level[i, j]) == (pytest.approx(slope, abs=1e-6), pytest.approx(level, abs=1e-6))
    assert known.names[int(np.argmax(np.abs(known.r[known.names.index("CD3")])))] in ("CD8", "VIM"), "the same pattern of tissue"


def test_with_nothing_visible_the_mean_of_the_data_set_stands_in(crops):
    crop = crops[0][0]
    nothing = np.ones((6, 4, 4), bool)
    assert not visible_mean(crop.values, nothing).any() and not nearest_patch(crop.values, nothing).any()


def test_one_channel_alone_is_decoded_as_all_of_them_are(trained, crops):
    crop = crops[0][0]
    alone = reconstruct_markers(trained.model, crop.values, crop.embeddings, [1, 4])
    for place, channel in enumerate((1, 4)):
        whole = reconstruct(trained.model, [crop.values], [crop.embeddings], [marker(6, (4, 4), channel)])[0][channel]
        assert np.allclose(alone[place], whole, atol=1e-5)


def test_an_absent_marker_is_painted_and_what_overlaps_is_averaged(trained, crops):
    source = trained.held_out[0] if len(trained.held_out[0].names) == 6 else trained.held_out[1]
    image, known = source.crop(0, 0, 48), source.embeddings
    painted = stain(trained.model, image[:5], known[:5], known[5], VirtuesStainConfig(tile=32))
    assert painted.shape == (48, 48)
    corner = reconstruct_markers(trained.model, np.concatenate([image[:5], np.zeros_like(image[:1])])[:, :32, :32], known, [5])[0]
    assert np.allclose(painted[:16, :16], corner[:16, :16], atol=1e-5), "the value of the zero channel is never seen"
    other = reconstruct_markers(trained.model, image[:, :32, 16:], known, [5])[0]
    assert np.allclose(painted[:16, 16:32], (corner[:16, 16:] + other[:16, :16]) / 2, atol=1e-5)
    check = check_stain(trained.model, image, known, 5, VirtuesStainConfig(tile=32))
    assert np.allclose(check.painted, painted, atol=1e-5) and check.r > 0.1 and 0 < check.f1 <= 1
    with pytest.raises(VirtuesError, match="measured in this image"):
        stain(trained.model, image, known, known[2])


def test_an_image_smaller_than_a_tile_is_painted_in_whole_patches(trained, crops):
    crop = crops[0][0]
    painted = stain(trained.model, crop.values[:5, :, :19], crop.embeddings[:5], crop.embeddings[5])
    assert painted.shape == (32, 19) and np.isfinite(painted).all()


def test_without_crops_there_is_nothing_to_say(trained):
    with pytest.raises(VirtuesError, match="no crop to measure on"):
        evaluate(trained.model, [], [Crop(np.zeros((1, 8, 8), np.float32), ("a",), np.zeros((1, 16), np.float32), "p")])
