"""How far treatment moved cells: strength against its floor, barycentres, arrows."""

import importlib.util

import numpy as np
import pytest

from ml.transport.errors import TransportError
from ml.transport.response import arrows, barycentre, plane, response_strength
from ml.transport.wasserstein import wasserstein2


def cells(seed, n, shift=0.0, dim=6):
    return np.random.default_rng(seed).normal(size=(n, dim)) + shift


def test_a_shift_is_measured_and_no_change_stays_at_the_floor():
    moved = response_strength(cells(0, 120), cells(1, 100, shift=3.0))
    same = response_strength(cells(0, 120), cells(1, 100))
    assert moved.distance == pytest.approx(3 * np.sqrt(6), rel=0.1) and moved.distance > 3 * moved.floor
    assert same.distance < 1.1 * same.floor
    assert (moved.used, moved.found) == ((120, 100), (120, 100))


def test_it_is_the_exact_distance_at_the_default_epsilon():
    x, y = cells(2, 30), cells(3, 41, shift=1.0)
    exact = wasserstein2(x, np.full(30, 1 / 30), y, np.full(41, 1 / 41))
    assert response_strength(x, y).distance == pytest.approx(exact, abs=5e-3)


def test_large_sets_are_drawn_down_always_alike():
    x, y = cells(4, 300), cells(5, 250, shift=1.0)
    one, again, other = (response_strength(x, y, max_cells=50, seed=s) for s in (0, 0, 1))
    assert one == again and one.distance != other.distance
    assert (one.used, one.found) == ((50, 50), (300, 250))
    assert response_strength(x[:3], y).floor is None


def test_the_barycentre_of_translates_lies_between_them():
    base = cells(6, 80)
    middle = barycentre([base, base + 4.0], points=40)
    assert middle.shape == (40, 6)
    assert middle.mean(axis=0) == pytest.approx(base.mean(axis=0) + 2.0, abs=1e-6)
    assert np.array_equal(middle, barycentre([base, base + 4.0], points=40))
    # it is nearer to both than either is to the other, and it has not collapsed to a point
    w = (np.full(40, 1 / 40), np.full(80, 1 / 80))
    assert max(wasserstein2(middle, w[0], one, w[1]) for one in (base, base + 4.0)) < 0.75 * 4 * np.sqrt(6)
    assert middle.var(axis=0).sum() > 0.3 * base.var(axis=0).sum()


def test_more_points_than_cells_are_allowed():
    assert barycentre([cells(0, 5)], points=12).shape == (12, 6)


def test_arrows_go_from_median_to_median_in_the_plane():
    x = cells(7, 2000) * np.array([5, 3, 1, 1, 1, 1])
    on = plane(x)
    assert on.method == "pca" and 0.8 < on.explained < 1
    shift = np.array([10.0, 0, 0, 0, 0, 0])
    found = arrows(on, {"A": x[:500], "B": x[:500], "C": x}, {"A": x[:500] + shift, "B": x[:500]})
    assert list(found) == ["A", "B"]
    assert found["A"].length == pytest.approx(10, rel=0.01) and found["B"].length == 0
    assert found["A"].end - found["A"].start == pytest.approx([10, 0], abs=0.5)


@pytest.mark.parametrize(
    "ask, code",
    [
        (lambda: response_strength(np.zeros((0, 3)), cells(0, 4, dim=3)), "empty"),
        (lambda: response_strength(np.zeros(3), cells(0, 4, dim=3)), "shape"),
        (lambda: response_strength(np.full((2, 3), np.nan), cells(0, 4, dim=3)), "not_finite"),
        (lambda: response_strength(cells(0, 4, dim=2), cells(0, 4, dim=3)), "dimension"),
        (lambda: response_strength(cells(0, 4), cells(0, 4), max_cells=1), "max_cells"),
        (lambda: barycentre([]), "empty"),
        (lambda: barycentre([cells(0, 4, dim=2), cells(0, 4, dim=3)]), "dimension"),
        (lambda: plane(cells(0, 2)), "too_few_cells"),
        (lambda: plane(cells(0, 9), "tsne"), "method"),
    ],
)
def test_what_cannot_be_compared_is_refused(ask, code):
    with pytest.raises(TransportError) as refused:
        ask()
    assert refused.value.code == code and refused.value.hint.endswith(".")


@pytest.mark.skipif(importlib.util.find_spec("umap") is not None, reason="umap-learn is installed here")
def test_umap_is_refused_where_it_is_not_installed():
    with pytest.raises(TransportError) as refused:
        plane(cells(0, 30), "umap")
    assert refused.value.code == "method_missing"
