"""Entropic transport is POT's where POT converges, the exact one at small epsilon, and never passes for converged when it is not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ml.transport import sinkhorn as module
from ml.transport.errors import TransportError
from ml.transport.sinkhorn import entropic_wasserstein2, sinkhorn
from ml.transport.wasserstein import _pot, wasserstein2


def problem(seed, n, m, dim=5, uniform=False):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, dim)), rng.normal(size=(m, dim)) + 0.3
    a, b = (np.full(k, 1 / k) if uniform else rng.dirichlet(np.ones(k)) for k in (n, m))
    return x, a, y, b, cdist(x, y, "sqeuclidean")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.3, 1.0, 10.0]))
def test_it_is_the_plan_of_pot(seed, n, m, epsilon):
    _, a, _, b, cost = problem(seed, n, m)
    found = sinkhorn(a, b, cost, epsilon)
    theirs = _pot().sinkhorn(a, b, cost, epsilon, method="sinkhorn_log", numItermax=20_000, stopThr=1e-13)
    assert found.plan == pytest.approx(theirs, abs=1e-7)
    assert found.cost == pytest.approx((theirs * cost).sum(), abs=1e-5)
    entropy = (theirs * np.log(np.maximum(theirs, 1e-300))).sum()
    assert found.objective == pytest.approx((theirs * cost).sum() + epsilon * entropy, abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 20), st.booleans(), st.sampled_from([2, 512]))
def test_at_the_small_epsilon_it_is_the_exact_distance(seed, n, m, uniform, dim):
    """The cost of the entropic plan exceeds the least one by at most epsilon times the entropy of a plan, log(n m)."""
    x, a, y, b, cost = problem(seed, n, m, dim, uniform)
    found, exact = sinkhorn(a, b, cost), wasserstein2(x, a, y, b) ** 2
    assert exact - 1e-8 * cost.max() <= found.cost <= exact + 1e-3 * np.log(n * m) + 1e-8 * cost.max()
    assert np.abs(found.plan.sum(axis=1) - a).sum() + np.abs(found.plan.sum(axis=0) - b).sum() <= 1e-8
    assert entropic_wasserstein2(x, a, y, b) == pytest.approx(np.sqrt(found.cost))


def test_sets_on_which_sinkhorn_alone_crawls_converge():
    """Unequal numbers of cells in 512 dimensions: the plan is a tree, along which plain Sinkhorn diffuses for millions of rounds."""
    _, a, _, b, cost = problem(0, 90, 110, 512)
    found = sinkhorn(a, b, cost)
    assert found.error <= 1e-8 and found.newton > 0
    assert found.cost == pytest.approx(_pot().emd2(a, b, cost), abs=1e-3 * np.log(90 * 110))
    with pytest.warns(UserWarning, match="did not converge"):
        _pot().sinkhorn(a, b, cost, 1e-3, method="sinkhorn_log", numItermax=300)


def test_points_without_weight_get_no_mass():
    _, a, _, b, cost = problem(1, 6, 5)
    a[[0, 3]], b[2] = 0, 0
    a, b = a / a.sum(), b / b.sum()
    plan = sinkhorn(a, b, cost, 0.5).plan
    assert (plan[[0, 3]] == 0).all() and (plan[:, 2] == 0).all() and plan.sum() == pytest.approx(1)


def test_epsilon_is_in_the_unit_of_the_costs():
    _, a, _, b, cost = problem(2, 8, 9)
    assert sinkhorn(a, b, 100 * cost, 50.0).plan == pytest.approx(sinkhorn(a, b, cost, 0.5).plan, abs=1e-7)


def test_what_has_not_converged_is_refused(monkeypatch):
    _, a, _, b, cost = problem(3, 40, 50, 64)
    monkeypatch.setattr(module, "_STEPS", 1)
    with pytest.raises(TransportError) as refused:
        sinkhorn(a, b, cost)
    assert refused.value.code == "not_converged" and "1e-08" in refused.value.sentence


@pytest.mark.parametrize(
    "a, b, cost, epsilon, code",
    [
        ([0.5, 0.5], [1.0], [[1.0]], 1, "shape"),
        ([1.0], [1.0], [[np.nan]], 1, "not_finite"),
        ([1.5, -0.5], [1.0], [[1.0], [1.0]], 1, "negative_weight"),
        ([0.5, 0.4], [1.0], [[1.0], [1.0]], 1, "weight_sum"),
        ([1.0], [1.0], [[1.0]], 0, "epsilon"),
        ([1.0], np.full(5000, 1 / 5000), np.zeros((1, 5000)), 1, "too_large"),
    ],
)
def test_what_is_no_transport_problem_is_refused(a, b, cost, epsilon, code):
    with pytest.raises(TransportError) as refused:
        sinkhorn(a, b, cost, epsilon)
    assert refused.value.code == code and refused.value.sentence.endswith(".")
