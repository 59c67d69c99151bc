"""The shared k-nearest-neighbour graph: neighbours as a plain computation finds them, weights as PhenoGraph's, refusals in words."""

import numpy as np
import pytest

from ml.discovery.config import GraphConfig
from ml.discovery.errors import Cancelled, DiscoveryError
from ml.discovery.graph import nearest, neighbour_graph


def tokens(n=120, d=12, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def plain_neighbours(x, k):
    distance = ((x[:, None].astype(np.float64) - x[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1)[:, :k]


@pytest.mark.parametrize("width", [3, 12])  # a tree, and brute force
def test_neighbours_are_the_nearest_other_cells_whatever_the_blocks(width):
    x = tokens(d=width)
    found = nearest(x, GraphConfig(neighbours=7, block=50))
    assert (found == plain_neighbours(x, 7)).all()


def test_equal_tokens_never_make_a_cell_its_own_neighbour():
    near = nearest(np.ones((30, 20), dtype=np.float32), GraphConfig(neighbours=5))
    assert not (near == np.arange(30)[:, None]).any()
    assert all(len(set(row)) == 5 for row in near.tolist())


def test_edges_are_those_either_side_has_with_the_jaccard_index_as_weight():
    x = tokens()
    graph = neighbour_graph(x, GraphConfig(neighbours=6))
    sets = [set(row) | {i} for i, row in enumerate(plain_neighbours(x, 6).tolist())]
    expected = {(min(i, j), max(i, j)) for i, row in enumerate(sets) for j in row if i != j}
    assert {tuple(e) for e in graph.edges.tolist()} == expected and len(graph.edges) == len(expected)
    weights = [len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in graph.edges.tolist()]
    np.testing.assert_allclose(graph.weights, weights, rtol=0, atol=1e-12)
    assert (neighbour_graph(x, GraphConfig(neighbours=6, weights="unit")).weights == 1).all()


def test_components_keep_the_neighbours_where_the_rest_is_nothing():
    plane = tokens(d=4)
    wide = np.concatenate((plane, np.zeros((120, 60), dtype=np.float32)), axis=1)
    reduced = neighbour_graph(wide, GraphConfig(components=4))
    assert (reduced.edges == neighbour_graph(plane, GraphConfig(components=None)).edges).all()


@pytest.mark.parametrize(
    ("x", "code"),
    [
        (np.zeros((0, 4)), "empty"),
        (np.zeros(4), "wrong_shape"),
        (np.full((30, 4), np.nan), "not_finite"),
        (np.zeros((10, 4)), "too_few_cells"),
    ],
)
def test_tokens_without_a_graph_are_refused_in_words(x, code):
    with pytest.raises(DiscoveryError) as refused:
        neighbour_graph(x, GraphConfig())
    assert refused.value.code == code and refused.value.sentence.endswith(".")


def test_it_tells_how_far_it_is_and_stops_when_asked():
    told = []
    neighbour_graph(tokens(), GraphConfig(block=40), lambda share, doing: told.append(share))
    assert told == sorted(told) and told[-1] == 1.0 and len(told) > 4
    with pytest.raises(Cancelled):
        neighbour_graph(tokens(), GraphConfig(block=40), stop=lambda: len(told) > 0)
