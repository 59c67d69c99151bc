"""Tissues are told by a few tokens of their bag; training ends by patients that it does not learn from."""

import numpy as np
import pytest

from ml.virtues.errors import VirtuesError
from ml.virtues.pretrain_config import VirtuesTissueConfig
from ml.virtues.tissue_classifier import fit_tissues

SMALL = VirtuesTissueConfig(hidden=16, heads=2, lr=5e-3, epochs=40, patience=4, seeds=2)


def bags(n, seed, signal=2.0):
    """Bags of 5 to 30 tokens; three tokens of every second one are moved."""
    rng, found = np.random.default_rng(seed), []
    for i in range(n):
        bag = rng.standard_normal((rng.integers(5, 30), 12)).astype(np.float32)
        bag[:3] += signal * (i % 2)
        found.append(bag)
    return found, [("low", "high")[i % 2] for i in range(n)], [f"p{i}" for i in range(n)]


def test_unseen_tissues_are_told_and_the_same_call_gives_the_same_classifier():
    made = [fit_tissues(*bags(40, 0), SMALL) for _ in range(2)]
    seen, labels, _ = bags(20, 1)
    assert (made[0].macro_f1(seen, labels) > 0.85).all() and made[0].classes == ("high", "low")
    assert np.array_equal(made[0].probabilities(seen), made[1].probabilities(seen))


def test_a_bag_is_the_same_alone_and_padded():
    made, (seen, _, _) = fit_tissues(*bags(20, 0), SMALL.model_copy(update={"epochs": 2})), bags(3, 2)
    import torch

    padded = torch.nn.utils.rnn.pad_sequence([torch.as_tensor(b) for b in seen], batch_first=True)
    padding = torch.arange(padded.shape[1])[None] >= torch.tensor([len(b) for b in seen])[:, None]
    together = made.models[0](padded, padding)[0].softmax(dim=1).detach().numpy()
    assert np.allclose(made.probabilities(seen)[0], together, atol=1e-6)
    vectors, attention = made.pooled(seen)
    assert all(np.allclose(a.sum(axis=1), 1, atol=1e-5) and a.shape == (SMALL.heads, len(b)) for a, b in zip(attention, seen))
    assert np.allclose(vectors[1], (attention[1] @ seen[1]).ravel(), atol=1e-5)


def test_noise_ends_early_and_keeps_the_best_epoch():
    made = fit_tissues(*bags(40, 0, signal=0.0), SMALL)
    assert all(epoch <= SMALL.epochs - SMALL.patience for epoch in made.epochs)


def test_one_class_is_refused():
    given, _, people = bags(10, 0)
    with pytest.raises(VirtuesError, match="the same label"):
        fit_tissues(given, ["a"] * 10, people, SMALL)
