"""Marker ink is left out of the tissue; stains, blood, frames and dust are not ink."""

import numpy as np
import pytest
from pen_strokes import INKS, with_stroke

from ml.slides.tissue import mask_of

GLASS, EOSIN, DENSE_H, BLOOD, DAB, COUNTERSTAIN = (
    (242, 240, 241), (222, 140, 180), (92, 62, 132), (188, 62, 78), (104, 62, 40), (140, 150, 205),
)  # fmt: skip


def overview(colour, seed=0):
    """(200, 200, 3) uint8: a square of a stain on glass, a little noisy."""
    rng = np.random.default_rng(seed)
    picture = np.empty((200, 200, 3))
    picture[:] = GLASS
    picture[50:150, 50:150] = colour
    return (picture + rng.normal(0, 4, picture.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("colour", [EOSIN, DENSE_H, BLOOD, DAB, COUNTERSTAIN])
def test_stains_and_blood_are_tissue_and_no_ink(colour):
    found = mask_of(overview(colour), 8.0)
    assert found.pen_share == 0.0 and found.mask[55:145, 55:145].mean() > 0.99


@pytest.mark.parametrize("ink", INKS)
@pytest.mark.parametrize("colour", [EOSIN, DENSE_H])
def test_a_stroke_is_found_and_is_no_tissue(ink, colour):
    plain = overview(colour)
    drawn, where = with_stroke(plain, ink, seed=3)
    before, after = mask_of(plain, 8.0), mask_of(drawn, 8.0)
    assert after.pen_share == pytest.approx(where.mean(), rel=0.35)
    assert not (after.mask & where).sum() > 0.1 * where.sum()
    away = before.mask & ~where
    assert after.mask[away].mean() > 0.85, "only the stroke and its fringe are taken away"


def test_thin_dark_lines_are_no_strokes():
    picture = overview(EOSIN)
    picture[100:103, 20:180] = (30, 60, 170)
    assert mask_of(picture, 8.0).pen_share == 0.0


def test_a_black_frame_is_neither_tissue_nor_ink():
    picture = overview(EOSIN)
    picture[:, :30] = 0
    found = mask_of(picture, 8.0)
    assert found.pen_share == 0.0 and found.frame_share == pytest.approx(0.15, abs=0.01) and not found.mask[:, :28].any()


def test_gaps_are_filled_up_to_a_limit_and_counted():
    picture = overview(EOSIN)
    picture[80:85, 80:85] = GLASS  # 40 x 40 um
    picture[110:130, 110:130] = GLASS  # 160 x 160 um
    found = mask_of(picture, 8.0)
    assert found.mask[82, 82] and not found.mask[120, 120]
    assert found.holes == 1 and 0.0005 < found.holes_mm2 < 0.002
    assert found.area_mm2 == pytest.approx((100 * 100 - 20 * 20) * 64e-6, rel=0.02)


def test_ink_does_not_move_otsus_threshold():
    plain = overview(EOSIN)
    drawn, _ = with_stroke(plain, "green", seed=1, radius=20)
    assert mask_of(drawn, 8.0).threshold == pytest.approx(mask_of(plain, 8.0).threshold, abs=1.0)
