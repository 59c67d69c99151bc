"""Cell types across cohorts: common markers listed, a balanced forest, classes that the source lacks counted apart."""

import numpy as np
import pytest

from ml.discovery.config import TransferConfig
from ml.discovery.errors import DiscoveryError
from ml.discovery.transfer import common_markers, grow_typer, transfer

QUICK = TransferConfig(trees=20, bootstrap=100)


def cells(kinds, n, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    code = rng.integers(0, len(kinds), n)
    places = np.array([["B", "NK", "T", "tumour"].index(k) for k in kinds])
    tokens = (np.eye(4, 5)[places[code]] * 4 + rng.normal(size=(n, 5)) + shift).astype(np.float32)
    return tokens, np.array(kinds)[code]


def test_markers_of_both_panels_are_listed_with_what_is_left_out():
    found = common_markers(["P1", "P2", "P3", "P2"], ["P4", "P3", "P2"])
    assert (found.common, found.only_source, found.only_target) == (("P2", "P3"), ("P1",), ("P4",))
    with pytest.raises(DiscoveryError) as refused:
        common_markers(["P1"], ["P2"])
    assert refused.value.code == "no_common_marker"


def test_types_carry_over_and_a_type_the_source_lacks_is_counted_apart():
    target, labels = cells(("B", "NK", "T", "tumour"), 400, 1, shift=0.2)
    patients = np.array([f"p{i % 5}" for i in range(400)])
    found = transfer(cells(("B", "T", "tumour"), 500, 0), (target, labels, patients), QUICK)
    assert found.scores.classes == ("B", "T", "tumour")
    assert found.scores.macro[0] > 0.9 and found.scores.macro[1] <= found.scores.macro[0] <= found.scores.macro[2]
    assert found.missing == {"NK": int((labels == "NK").sum())}
    assert found.scores.cells.sum() == 400 - found.missing["NK"]


def test_classes_are_balanced_by_down_sampling():
    tokens, labels = cells(("B", "T"), 300, 0)
    rare = np.flatnonzero(labels == "B")[:20]
    rows = np.concatenate((rare, np.flatnonzero(labels == "T")))
    forest, drawn = grow_typer(tokens[rows], labels[rows], QUICK)
    assert drawn == 20 and forest.classes == ("B", "T") and len(forest.roots) == 20


@pytest.mark.parametrize(
    ("source", "target", "code"),
    [
        ((np.zeros((4, 5)), ["B"] * 4), (np.zeros((2, 5)), ["B"] * 2, ["p"] * 2), "single_class"),
        ((np.zeros((4, 5)), ["B", "T"] * 2), (np.zeros((2, 5)), ["NK"] * 2, ["p"] * 2), "no_common_class"),
        ((np.zeros((4, 5)), ["B", "T"] * 2), (np.zeros((2, 3)), ["B"] * 2, ["p"] * 2), "wrong_width"),
        ((np.zeros((0, 5)), []), (np.zeros((2, 5)), ["B"] * 2, ["p"] * 2), "empty"),
        ((np.full((2, 5), np.inf), ["B", "T"]), (np.zeros((2, 5)), ["B"] * 2, ["p"] * 2), "not_finite"),
        ((np.zeros((4, 5)), ["B", "T"] * 2), (np.zeros((2, 5)), ["B"] * 3, ["p"] * 2), "wrong_length"),
    ],
)
def test_cohorts_that_cannot_be_carried_are_refused(source, target, code):
    with pytest.raises(DiscoveryError) as refused:
        transfer(source, target, QUICK)
    assert refused.value.code == code and refused.value.sentence.endswith(".")
