"""The pruned search gives the answer of comparing with everybody, and says with how many it did compare."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.transport import retrieval
from ml.transport.errors import TransportError
from ml.transport.retrieval import exact_top_k, lower_bounds
from ml.transport.wasserstein import wasserstein2
from ml.types import NicheSet


def niche_set(rng, k, dim, centre=0.0, decimals=None):
    vectors = rng.normal(size=(k, dim)) + centre
    if decimals is not None:
        vectors = np.round(vectors, decimals)
    weights = np.full(k, 1 / k) if rng.random() < 0.3 else rng.dirichlet(np.ones(k))
    return NicheSet(vectors.astype(np.float32), weights, np.zeros((k, 4)))


def by_brute_force(query, candidates, k):
    distances = [wasserstein2(query.vectors, query.weights, c.vectors, c.weights) for c in candidates]
    order = sorted(range(len(candidates)), key=lambda i: (distances[i], i))[:k]
    return [(i, distances[i]) for i in order]


@st.composite
def searches(draw):
    """Candidates of different sizes, some of them twice, some equal to the query, some far away."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dim, decimals = draw(st.integers(1, 6)), draw(st.sampled_from([0, 1, None]))
    offset = draw(st.sampled_from([0.0, 1.0, 1000.0]))
    query = niche_set(rng, draw(st.integers(1, 6)), dim, offset, decimals)
    centres = offset + rng.normal(size=(draw(st.integers(1, 25)), dim)) * draw(st.sampled_from([0.0, 0.5, 5.0]))
    candidates = [niche_set(rng, int(rng.integers(1, 7)), dim, c, decimals) for c in centres]
    candidates += [candidates[i] for i in rng.integers(0, len(candidates), size=draw(st.integers(0, 5)))]
    if draw(st.booleans()):
        candidates.append(query)
    return query, candidates, draw(st.integers(1, len(candidates) + 2))


@settings(max_examples=120, deadline=None)
@given(searches())
def test_the_answer_is_that_of_brute_force(search):
    query, candidates, k = search
    found = exact_top_k(query, candidates, k)
    assert list(found.hits) == by_brute_force(query, candidates, k)
    assert found.n_candidates == len(candidates)
    assert min(k, len(candidates)) <= found.n_fully_compared <= len(candidates)


@settings(max_examples=60, deadline=None)
@given(searches())
def test_no_distance_is_below_its_bound(search):
    query, candidates, _ = search
    stack = retrieval._stack(candidates, query.vectors.shape[1])
    bounds = lower_bounds(query.vectors.astype(float), query.weights / query.weights.sum(), stack)
    for bound, c in zip(bounds, candidates, strict=True):
        assert bound <= wasserstein2(query.vectors, query.weights, c.vectors, c.weights) ** 2 * (1 + 1e-9) + 1e-12


def test_far_candidates_are_not_compared_and_the_count_says_so():
    rng = np.random.default_rng(1)
    query = niche_set(rng, 8, 4)
    near = [niche_set(rng, 8, 4) for _ in range(10)]
    far = [niche_set(rng, 8, 4, centre=50.0) for _ in range(200)]
    found = exact_top_k(query, far[:100] + near + far[100:], k=5)
    assert found.n_candidates == 210
    assert found.n_fully_compared <= 10
    assert all(100 <= hit.candidate < 110 for hit in found.hits)


def test_bounds_do_not_depend_on_the_size_of_a_block(monkeypatch):
    rng = np.random.default_rng(2)
    query, candidates = niche_set(rng, 5, 3), [niche_set(rng, int(k), 3) for k in rng.integers(1, 9, size=40)]
    stack = retrieval._stack(candidates, 3)
    whole = lower_bounds(query.vectors.astype(float), query.weights, stack)
    for points in (1, 7, 30):
        monkeypatch.setattr(retrieval, "BLOCK_POINTS", points)
        assert lower_bounds(query.vectors.astype(float), query.weights, stack) == pytest.approx(whole, rel=1e-9)


def test_nobody_to_compare_with_is_an_answer():
    found = exact_top_k(niche_set(np.random.default_rng(0), 3, 2), [], 5)
    assert (found.hits, found.n_candidates, found.n_fully_compared) == ((), 0, 0)


def _broken(vectors, weights):
    return NicheSet(np.asarray(vectors, np.float32), np.asarray(weights), np.zeros((len(weights), 4)))


@pytest.mark.parametrize(
    "broken, code",
    [
        (_broken([[np.nan, 0]], [1.0]), "not_finite"),
        (_broken([[0, 0], [1, 1]], [1.2, -0.2]), "negative_weight"),
        (_broken([[0, 0]], [0.9]), "weight_sum"),
        (_broken([[0, 0, 0]], [1.0]), "dimension"),
        (_broken(np.zeros((0, 2)), []), "empty"),
        (_broken([[0, 0]], [0.5, 0.5]), "shape"),
    ],
)
def test_a_broken_candidate_is_named_even_where_it_would_be_pruned(broken, code):
    rng = np.random.default_rng(0)
    query = niche_set(rng, 3, 2)
    with pytest.raises(TransportError) as refused:
        exact_top_k(query, [query, niche_set(rng, 3, 2), broken], 1)
    assert refused.value.code == code
    assert refused.value.where == "candidate 2"


def test_fewer_than_one_neighbour_is_refused():
    query = niche_set(np.random.default_rng(0), 3, 2)
    with pytest.raises(TransportError) as refused:
        exact_top_k(query, [query], 0)
    assert refused.value.code == "k"
