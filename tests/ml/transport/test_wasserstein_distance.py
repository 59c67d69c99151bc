"""The distance is a metric, equals other exact ways to compute it, and refuses what is no weighted set."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, linprog

from ml.transport.errors import TransportError
from ml.transport.wasserstein import matched, plan, wasserstein2
from ml.types import NicheSet


def random_set(rng, k, dim, spread=1.0):
    weights = rng.dirichlet(np.ones(k))
    if k > 2 and rng.random() < 0.3:
        weights[0] = 0.0
        weights /= weights.sum()
    # coordinates on a coarse grid, so that ties and equal points do occur
    return np.round(rng.normal(size=(k, dim)) * spread, 1), weights


@st.composite
def weighted_sets(draw, count):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dim = draw(st.integers(1, 5))
    return [random_set(rng, draw(st.integers(1, 6)), dim, draw(st.sampled_from([0.1, 1.0, 30.0]))) for _ in range(count)]


def by_linear_program(x, a, y, b):
    cost = ((x[:, None, :] - y[None, :, :]) ** 2).sum(axis=2)
    rows = np.kron(np.eye(len(a)), np.ones(len(b)))
    columns = np.kron(np.ones(len(a)), np.eye(len(b)))
    solved = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([a, b]), method="highs")
    assert solved.success
    return np.sqrt(max(solved.fun, 0.0))


@settings(max_examples=60, deadline=None)
@given(weighted_sets(2))
def test_it_is_the_optimum_of_the_linear_program(sets):
    (x, a), (y, b) = sets
    assert wasserstein2(x, a, y, b) == pytest.approx(by_linear_program(x, a, y, b), abs=1e-5, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(weighted_sets(3))
def test_it_is_a_metric(sets):
    (x, a), (y, b), (z, c) = sets
    xy, yz, xz = wasserstein2(x, a, y, b), wasserstein2(y, b, z, c), wasserstein2(x, a, z, c)
    assert wasserstein2(y, b, x, a) == pytest.approx(xy, abs=1e-7)
    assert wasserstein2(x, a, x, a) == pytest.approx(0, abs=1e-7)
    assert xz <= xy + yz + 1e-7


@settings(max_examples=40, deadline=None)
@given(weighted_sets(1), st.integers(0, 1000))
def test_order_and_splitting_of_points_do_not_matter(sets, seed):
    x, a = sets[0]
    order = np.random.default_rng(seed).permutation(len(a))
    assert wasserstein2(x, a, x[order], a[order]) == pytest.approx(0, abs=1e-6)
    assert wasserstein2(x, a, np.repeat(x, 2, axis=0), np.repeat(a / 2, 2)) == pytest.approx(0, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_equal_sizes_and_uniform_weights_are_the_best_permutation(k, dim, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, k, dim))
    uniform = np.full(k, 1 / k)
    best = min(((x - y[list(order)]) ** 2).sum() / k for order in itertools.permutations(range(k)))
    assert wasserstein2(x, uniform, y, uniform) == pytest.approx(np.sqrt(best), rel=1e-9)


def test_the_assignment_path_and_the_network_path_agree():
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 16, 90))
    uniform = np.full(16, 1 / 16)
    cost = ot.dist(x, y)
    rows, columns = linear_sum_assignment(cost)
    expected = np.sqrt(ot.emd2(uniform, uniform, cost))
    assert wasserstein2(x, uniform, y, uniform) == pytest.approx(expected, rel=1e-9)
    assert plan(x, uniform, y, uniform)[rows, columns] == pytest.approx(uniform)


def test_it_equals_pot_on_sets_of_retrieval_size():
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(4)
    for k, m in ((16, 16), (16, 5), (1, 16)):
        x, y, a, b = rng.normal(size=(k, 90)), rng.normal(size=(m, 90)), rng.dirichlet(np.ones(k)), rng.dirichlet(np.ones(m))
        assert wasserstein2(x, a, y, b) == pytest.approx(np.sqrt(ot.emd2(a, b, ot.dist(x, y))), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(weighted_sets(2))
def test_the_plan_has_both_marginals_and_the_distance_as_its_cost(sets):
    (x, a), (y, b) = sets
    flow = plan(x, a, y, b)
    assert (flow >= 0).all()
    assert flow.sum(axis=1) == pytest.approx(a, abs=1e-9)
    assert flow.sum(axis=0) == pytest.approx(b, abs=1e-9)
    cost = (flow * ((x[:, None] - y[None]) ** 2).sum(axis=2)).sum()
    assert np.sqrt(cost) == pytest.approx(wasserstein2(x, a, y, b), abs=1e-7)


def test_a_shift_moves_the_whole_mass_by_its_length():
    x, a = random_set(np.random.default_rng(5), 6, 3)
    assert wasserstein2(x, a, x + [3.0, 0.0, 4.0], a) == pytest.approx(5.0)


def test_matched_pairs_come_by_mass_and_then_by_nearness():
    query = NicheSet(np.array([[0.0], [10.0], [20.0]], np.float32), np.array([0.5, 0.25, 0.25]), np.zeros((3, 4)))
    hit = NicheSet(np.array([[1.0], [10.0], [26.0]], np.float32), np.array([0.5, 0.25, 0.25]), np.zeros((3, 4)))
    pairs = matched(plan(query.vectors, query.weights, hit.vectors, hit.weights), query, hit)
    assert [(p.i, p.j) for p in pairs] == [(0, 0), (1, 1), (2, 2)]
    assert [p.cost for p in pairs] == [1.0, 0.0, 36.0]
    assert sum(p.mass for p in pairs) == pytest.approx(1)
    assert len(matched(plan(query.vectors, query.weights, hit.vectors, hit.weights), query, hit, n=1)) == 1
    with pytest.raises(TransportError) as refused:
        matched(np.zeros((2, 3)), query, hit)
    assert refused.value.code == "shape"


GOOD = (np.zeros((2, 3)), np.array([0.5, 0.5]))


@pytest.mark.parametrize(
    "x, a, code",
    [
        (np.array([[0.0, np.nan, 0.0], [0.0, 0.0, 0.0]]), [0.5, 0.5], "not_finite"),
        (np.zeros((2, 3)), [0.5, np.inf], "not_finite"),
        (np.zeros((2, 3)), [1.5, -0.5], "negative_weight"),
        (np.zeros((2, 3)), [0.5, 0.4], "weight_sum"),
        (np.zeros((2, 4)), [0.5, 0.5], "dimension"),
        (np.zeros((0, 3)), [], "empty"),
        (np.zeros((2, 0)), [0.5, 0.5], "empty"),
        (np.zeros(3), [1.0], "shape"),
        (np.zeros((2, 3)), [1.0], "shape"),
    ],
)
def test_what_is_no_weighted_set_is_refused_with_a_sentence(x, a, code):
    for arguments in ((x, a, *GOOD), (*GOOD, x, a)):
        for ask in (wasserstein2, plan):
            with pytest.raises(TransportError) as refused:
                ask(*arguments)
            assert refused.value.code == code
            assert refused.value.sentence.endswith(".") and refused.value.hint.endswith(".")


def test_comparing_sets_imports_no_torch():
    ask = (
        "import sys, numpy as np\n"
        "from ml.transport.wasserstein import wasserstein2\n"
        "assert wasserstein2(np.zeros((2, 1)), [.3, .7], np.ones((2, 1)), [.6, .4]) == 1\n"
        "assert 'ot' in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", ask], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
