"""Leiden over a row of resolutions: seeded, of the stated quality, and which clusters are looked at afterwards."""

import leidenalg
import numpy as np
import pytest

from ml.discovery.config import GraphConfig, LeidenConfig
from ml.discovery.errors import Cancelled, DiscoveryError
from ml.discovery.graph import CellGraph, neighbour_graph
from ml.discovery.leiden import Clustering, cluster_cells, leiden, small_clusters

FEW = LeidenConfig(first=0.5, last=1.0, step=0.25)


@pytest.fixture(scope="module")
def islands():
    """600 cells in 6 islands, the graph of them, and who is where."""
    rng = np.random.default_rng(3)
    home = np.repeat(np.arange(6), 100)
    x = (rng.normal(size=(6, 10))[home] * 4 + rng.normal(size=(600, 10))).astype(np.float32)
    return x, neighbour_graph(x, GraphConfig()), home


def test_the_papers_resolutions_are_twenty_one():
    resolutions = LeidenConfig().resolutions
    assert len(resolutions) == 21 and resolutions[0] == 4.0 and resolutions[1] == 4.05 and resolutions[-1] == 5.0


def test_islands_are_found(islands):
    _, graph, home = islands
    found = leiden(graph, FEW)
    assert found.labels.shape == (3, 600)
    for labels in found.labels:
        assert len(set(zip(labels.tolist(), home.tolist()))) == 6


def test_the_quality_is_leidenalgs_by_twice_the_weight_of_the_edges(islands):
    _, graph, _ = islands
    found = leiden(graph, FEW)
    for resolution, labels, quality in zip(found.resolutions, found.labels, found.quality):
        same = leidenalg.RBConfigurationVertexPartition(
            graph.igraph(), labels.tolist(), weights=graph.weights.tolist(), resolution_parameter=resolution
        )
        assert quality == pytest.approx(same.quality() / (2 * graph.weights.sum()), abs=1e-9)


def test_a_seed_gives_the_same_clusters_whichever_resolutions_are_asked_for():
    noise = neighbour_graph(np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32), GraphConfig())
    every, again = leiden(noise, FEW), leiden(noise, FEW)
    alone = leiden(noise, LeidenConfig(first=1.0, last=1.0))
    assert (every.labels == again.labels).all()
    assert (alone.labels[0] == every.labels[2]).all()
    assert (leiden(noise, LeidenConfig(first=0.5, last=1.0, step=0.25, seed=1)).labels != every.labels).any()


def test_clusters_under_the_limit_are_kept_and_one_found_twice_counts_once():
    labels = np.array([[0, 0, 0, 1, 1, 2], [1, 1, 1, 0, 0, 0]], dtype=np.int32)
    made = Clustering((4.0, 4.05), labels, np.zeros(2))
    kept = small_clusters(made, LeidenConfig(largest=4, smallest=2))
    assert [(c.resolution, c.label, c.cells.tolist()) for c in kept] == [(4.0, 0, [0, 1, 2]), (4.0, 1, [3, 4]), (4.05, 0, [3, 4, 5])]
    assert [len(c) for c in small_clusters(made, LeidenConfig(largest=3))] == [2, 1]
    with pytest.raises(DiscoveryError) as refused:
        small_clusters(made, LeidenConfig(largest=10, smallest=7))
    assert refused.value.code == "no_cluster_left"


def test_from_tokens_to_clusters_with_progress_and_a_stop(islands):
    x, _, home = islands
    told = []
    clusters = cluster_cells(x, GraphConfig(), FEW, lambda share, doing: told.append(share))
    assert {tuple(np.unique(home[c.cells])) for c in clusters} == {(i,) for i in range(6)}
    assert told == sorted(told) and told[-1] == 1.0
    asked = []
    with pytest.raises(Cancelled):
        leiden(neighbour_graph(x, GraphConfig()), FEW, stop=lambda: asked.append(1) or len(asked) > 2)
    assert len(asked) == 3


def test_a_graph_without_edges_is_refused():
    with pytest.raises(DiscoveryError) as refused:
        leiden(CellGraph(3, np.empty((0, 2), dtype=np.int32), np.empty(0)), FEW)
    assert refused.value.code == "empty"


@pytest.mark.parametrize("settings", [{"first": 5.0, "last": 4.0}, {"iterations": 0}, {"step": 0}])
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ValueError):
        LeidenConfig(**settings)
