"""The study on the MIBI field: squares apart from the training, random vectors that say so, and a document made of its cells alone."""

import numpy as np
import pytest

from ml.studies.virtues_mibi import QUICK, pretrain_config
from ml.studies.virtues_mibi_data import PROTEINS, bank_for, coarser, field, reliability, squares
from ml.studies.virtues_mibi_report import section, written
from ml.types import MultiplexImage
from ml.virtues.tiling import Shares, random_subimages


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    return MultiplexImage(rng.poisson(2, (3, 128, 128)).astype(np.float32), ("a", "b", "c"), 0.78)


def test_no_training_crop_comes_near_a_held_out_square(drawn):
    held = squares(drawn, 16, 8)
    assert sorted(c for _, c in held.cells) == [0, 1, 2, 3] and len(held.corners) == 16
    tissue = np.ones((128, 128), bool)
    for r, c in random_subimages(tissue, 16, 40, 0, np.random.default_rng(0), held.allowed):
        far = np.maximum(np.abs(held.corners[:, 0] - r), np.abs(held.corners[:, 1] - c)).min()
        assert far >= 16 + 8, "a side of a square and the gap"
    assert Shares(held.allowed).counts(held.corners, 16).max() == 0


def test_thinned_halves_tell_signal_from_noise():
    rng = np.random.default_rng(1)
    level = np.kron(rng.gamma(1, 4, (32, 32)), np.ones((4, 4)))
    values = np.stack([rng.poisson(level), rng.poisson(np.full((128, 128), 4.0))]).astype(np.float32)
    told = reliability(("signal", "noise"), values, 2, np.ones((64, 64), bool))
    assert told["signal"] > 0.9 and abs(told["noise"]) < 0.15
    assert np.allclose(coarser(values, 4)[0].mean(), values[0].mean())


@pytest.mark.realdata
def test_random_vectors_are_orthogonal_to_all_others_and_as_long(data):
    image = field(data, 4)
    assert set(image.markers) == set(PROTEINS) and image.values.shape == (41, 256, 256)
    bank, random = bank_for([PROTEINS[m] for m in image.markers], data)
    vectors = np.stack([bank.embedding(p) for p in bank.embeddings])
    at = [i for i, p in enumerate(bank.embeddings) if p in random]
    cosine = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    np.fill_diagonal(cosine, 0)
    assert len(bank) == 39 and len(random) == 20 and np.abs(cosine[at]).max() < 1e-5
    assert np.array_equal(bank.embedding("P07766"), np.asarray(bank_for(["P07766"], data)[0].embedding("P07766")))


def cells(network=0.5, partner=0.3):
    rng = np.random.default_rng(0)
    figure = {
        m: {"mean": v, "draws": rng.normal(v, 0.01, 100).tolist(), "markers": [v, None]}
        for m, v in (("network", network), ("partner", partner), ("visible mean", 0.1), ("nearest patch", 0.5))
    }
    told = {"masking": "marker", "markers": ["CD3", "AR"], "crops": 10, "r": figure, "within": figure, "f1": figure}
    fit = {
        "cpu_seconds_per_step": 0.5, "steps": 240, "markers": ["CD3", "AR"], "random": ["AR"], "dropped": [["P", "no protein"]],
        "parameters": 1000, "stopped_by": "steps", "loss": 0.25,
    }  # fmt: skip
    common = {"settings": "", "seconds": 1, "cpu_seconds": 1, "code": "abc"}
    return [
        {"key": {"task": "fit"}, "result": fit, **common},
        {"key": {"task": "reconstruct", "masking": "marker"}, "result": told, **common},
    ]


def test_the_document_says_who_wins_by_the_numbers_alone():
    text = section(cells())
    assert "A whole marker masked: above visible mean, most correlated marker." in text
    assert "AR (random vector)" in text and "their vectors are random" in text and "2 minutes of one core" in text
    lost = section(cells(network=0.2))
    assert "A whole marker masked: above visible mean; below most correlated marker." in lost
    assert "below most correlated marker (-0.100 (" in lost
    assert "not told apart from most correlated marker" in section(cells(network=0.3))


def test_other_sections_of_the_document_stay():
    first = written("", "mine")
    other = first + "\n<!-- worlds -->\ntheirs\n<!-- /worlds -->\n"
    again = written(other, "mine, anew")
    assert "theirs" in again and "mine, anew" in again and again.count("<!-- mibi -->") == 1 and "\nmine\n" not in again
    assert first.startswith("# VirTues")


def test_the_quick_study_is_small():
    assert pretrain_config(QUICK).epochs == 1 and pretrain_config(QUICK).held_out == 0
