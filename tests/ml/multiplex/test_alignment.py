"""Placing an image on a slide: landmarks give back the map they were made with; what cannot be right is refused or told."""

import io

import numpy as np
import pytest
from PIL import Image

from ml.multiplex.align import alignment_findings, apply, checked_matrix, facts_of, fit_affine, inverse
from ml.multiplex.overlay import overlay_png
from ml.multiplex.zarr_pyramid import write_pyramid
from ml.slides.findings import FindingCode as Code
from ml.slides.findings import SlideError

IMAGE = np.array([[10.0, 20], [380, 40], [60, 280], [350, 260]])


def turned(angle=30.0, scale=4.0, mirrored=False):
    """From px of an image of 1 um to px0 of 0.25 um: turned, and shifted by (500, 900)."""
    a = np.radians(angle)
    linear = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    return np.column_stack([linear, [500.0, 900.0]])


def refused(code, function, *args):
    with pytest.raises(SlideError) as error:
        function(*args)
    assert error.value.code == code


def test_landmarks_give_back_the_map_they_were_made_with():
    matrix = turned()
    fitted = fit_affine(IMAGE, apply(matrix, IMAGE), 0.25)
    np.testing.assert_allclose(fitted.matrix, matrix, atol=1e-8)
    assert fitted.residual_um < 1e-8 and len(fitted.residuals_um) == 4
    np.testing.assert_allclose(apply(inverse(matrix), apply(matrix, IMAGE)), IMAGE, atol=1e-9)


def test_the_residual_is_in_um_and_least_squares():
    rng = np.random.default_rng(0)
    points, matrix = rng.uniform(0, 1000, (400, 2)), turned()
    noisy = apply(matrix, points) + rng.normal(0, 8, (400, 2))
    fitted = fit_affine(points, noisy, 0.25)
    assert fitted.residual_um == pytest.approx(8 * 0.25 * np.sqrt(2), rel=0.1)
    np.testing.assert_allclose(apply(fitted.matrix, points), apply(matrix, points), atol=3)
    worse = fitted.matrix + np.array([[0, 0, 1.0], [0, 0, 0]])
    assert np.sum((apply(worse, points) - noisy) ** 2) > np.sum((apply(fitted.matrix, points) - noisy) ** 2)


def test_too_few_or_on_a_line_is_refused():
    refused(Code.LANDMARKS_TOO_FEW, fit_affine, IMAGE[:2], IMAGE[:2], 1.0)
    refused(Code.LANDMARKS_TOO_FEW, fit_affine, IMAGE, IMAGE[:3], 1.0)
    line = np.array([[0.0, 0], [100, 100], [200, 200], [301, 300]])
    refused(Code.LANDMARKS_COLLINEAR, fit_affine, line, IMAGE, 1.0)
    refused(Code.LANDMARKS_COLLINEAR, fit_affine, IMAGE, line, 1.0)
    refused(Code.LANDMARKS_COLLINEAR, fit_affine, [[1, 1]] * 3, [[1, 1]] * 3, 1.0)
    refused(Code.ALIGNMENT_INVALID, fit_affine, [[1, float("nan")]] * 3, IMAGE[:3], 1.0)


@pytest.mark.parametrize(
    "bad", [None, "x", [[1, 2, 3]], [[1, 0, 0], [0, float("inf"), 0]], [[1, 1, 0], [1, 1, 0]], [[0, 0, 0], [0, 0, 0]], [[1, 0, 0], [0, 1]]]
)
def test_what_is_no_map_is_refused(bad):
    refused(Code.ALIGNMENT_INVALID, checked_matrix, bad)


def test_facts_and_what_a_person_should_look_at():
    good = facts_of(turned(), 1.0, 0.25, (400, 300))
    assert good["scale"] == pytest.approx(1) and good["rotation"] == pytest.approx(30) and not good["mirrored"]
    assert alignment_findings(good, 2.0, (3000, 4000)) == []
    mirrored = facts_of(turned(mirrored=True), 1.0, 0.25, (400, 300))
    assert mirrored["mirrored"] and mirrored["scale"] == pytest.approx(1)
    codes = {one.code for one in alignment_findings(mirrored, None, (3000, 4000))}
    assert Code.ALIGNMENT_MIRRORED in codes
    for scale in (4.5, 3.5):
        assert [f.code for f in alignment_findings(facts_of(turned(0, scale), 1.0, 0.25, (40, 30)), None, (9000, 9000))] == [
            Code.ALIGNMENT_SCALE
        ]
    assert [f.code for f in alignment_findings(good, 40.0, (3000, 4000))] == [Code.ALIGNMENT_LOOSE]
    (outside,) = alignment_findings(facts_of(turned(0), 1.0, 0.25, (400, 300)), None, (400, 4000))
    assert outside.code == Code.ALIGNMENT_OUTSIDE and outside.severity == "error"


def test_the_picture_draws_a_cell_where_the_map_puts_it(tmp_path):
    picture = np.zeros((1, 300, 400), np.uint16)
    picture[0, 100:110, 200:210] = 1000
    write_pyramid(tmp_path / "a.zarr", picture.shape, picture.dtype, lambda _: iter([picture[0]]), ["CD3"], 1.0)
    matrix = turned(90.0)
    png = overlay_png(tmp_path / "a.zarr", 0, matrix, (-800.0, 800.0), 2.0, (700, 850), "00ff00", 0, 1000)
    drawn = np.asarray(Image.open(io.BytesIO(png)))
    assert drawn.shape == (850, 700, 4)
    centre = (apply(matrix, [[205, 105]])[0] - (-800, 800)) / 2.0
    ys, xs = np.nonzero(drawn[..., 3] > 128)
    inner = (np.abs(xs - centre[0]) < 60) & (np.abs(ys - centre[1]) < 60)
    assert np.allclose([xs[inner].mean() + 0.5, ys[inner].mean() + 0.5], centre, atol=1.0)
    assert tuple(drawn[int(centre[1]), int(centre[0])]) == (0, 255, 0, 255) and drawn[int(centre[1]) + 40, int(centre[0]), 3] == 0
    with pytest.raises(SlideError):
        overlay_png(tmp_path / "a.zarr", 1, matrix, (0, 0), 1.0, (10, 10), "00ff00", 0, 1)
