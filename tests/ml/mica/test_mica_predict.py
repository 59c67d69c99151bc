"""A curve in days, a probability by a horizon, attention, and attributions that add up to the risk."""

import numpy as np
import pytest
import torch

from ml.mica.config import MicaExplainConfig, MicaPredictConfig
from ml.mica.errors import MicaError
from ml.mica.explain import explain
from ml.mica.labels import Bins
from ml.mica.predict import predict, survival_at
from ml.mica.train import fit

BINS = Bins(np.array([5.0, 100, 200, 400, 1000]))


def test_the_curve_begins_at_one_and_has_a_constant_hazard_within_an_interval():
    survival = np.array([0.8, 0.4, 0.2, 0.1])
    at = survival_at(BINS, survival, np.array([0.0, 50, 100, 150, 200, 400, 1000, 2000]))
    np.testing.assert_allclose(at, [1, 0.8**0.5, 0.8, (0.8 * 0.4) ** 0.5, 0.4, 0.2, 0.1, 0.1])


def test_a_prediction_of_one_fold(toy, toy_fit):
    weights, fold = toy_fit.weights, toy_fit.fold_of["P0"]
    p = predict(weights, [toy.bags[0]], fold)[0]
    assert (p.patient, p.slides, p.fold, p.markers) == ("P0", ("S0",), fold, toy.bags[0].markers)
    assert p.risk == toy_fit.risk[0] and p.probability == toy_fit.probability[0] and p.horizon_days == 730.5
    np.testing.assert_array_equal(p.days, [0, *weights.folds[fold].bins.edges[1:]])
    np.testing.assert_allclose(p.survival, [1, *np.cumprod(1 - p.hazards)], rtol=1e-5)
    assert p.risk == pytest.approx(-p.survival[1:].sum(), rel=1e-5)
    assert np.interp(730.5, p.days, np.log(p.survival)) == pytest.approx(np.log(1 - p.probability), rel=1e-5)


def test_a_patient_whom_no_fold_saw_gets_the_mean_over_folds(toy, toy_fit):
    p = predict(toy_fit.weights, [toy.bags[0]])[0]
    each = [predict(toy_fit.weights, [toy.bags[0]], k)[0] for k in (0, 1)]
    for what in ("risk", "probability", "hazards"):
        np.testing.assert_allclose(getattr(p, what), np.mean([getattr(e, what) for e in each], axis=0))
    assert p.fold is None and len(p.days) == 1 + 2 * 4 and (np.diff(p.survival) <= 0).all()


def test_attention_of_each_marker_adds_up_to_one_over_the_tiles(toy, toy_fit):
    weights = predict(toy_fit.weights, [toy.bags[1]], 0)[0].attention[0]
    assert weights.shape == (3, len(toy.bags[1].tiles)) and weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert predict(toy_fit.weights, [toy.bags[1]], 0, MicaPredictConfig(attention=False))[0].attention is None


def test_another_horizon(toy, toy_fit):
    soon, late = (predict(toy_fit.weights, [toy.bags[0]], 0, MicaPredictConfig(horizon_days=d))[0].probability for d in (100, 1000))
    assert soon < late
    with pytest.raises(MicaError, match="was followed beyond") as caught:
        predict(toy_fit.weights, [toy.bags[0]], 0, MicaPredictConfig(horizon_days=1e6))
    assert caught.value.code == "horizon_beyond_follow_up"


def test_bags_that_the_model_cannot_read_are_refused(toy, toy_fit):
    from dataclasses import replace

    bag = toy.bags[0]
    for spoilt, code in (
        (replace(bag, markers=("CD8", "CD31", "HLA-A")), "panel_mismatch"),
        (replace(bag, encoder="uni"), "encoder_differs"),
        (replace(bag, tiles=bag.tiles[:, :3]), "dims_differ"),
    ):
        with pytest.raises(MicaError) as caught:
            predict(toy_fit.weights, [spoilt], 0)
        assert caught.value.code == code
    with pytest.raises(MicaError, match="There is no fold 2; there are 2"):
        explain(toy_fit.weights, bag, 2)


def test_attributions_add_up_to_the_risk_above_that_of_an_empty_bag(toy, toy_fit):
    e = explain(toy_fit.weights, toy.bags[0], 0, MicaExplainConfig(steps=128))
    assert e.tiles.shape == (len(toy.bags[0].tiles),) and e.codex.shape == (3,)
    assert e.risk == toy_fit.weights.folds[0].model(*map(torch.from_numpy, (toy.bags[0].tiles, toy.bags[0].codex))).risk.item()
    assert abs(e.gap) < 0.01 and e.gap == pytest.approx(e.tiles.sum() + e.codex.sum() - (e.risk - e.baseline))
    assert e.relative_gap == pytest.approx(abs(e.gap) / abs(e.risk - e.baseline))


@pytest.mark.parametrize("modality", ["he", "codex"])
def test_one_branch_predicts_and_explains_too(few, brief, modality):
    done = fit(few.bags, few.outcomes, brief.model_copy(update={"modality": modality}))
    p, e = predict(done.weights, [few.bags[0]], 1)[0], explain(done.weights, few.bags[0], None, MicaExplainConfig(steps=64))
    assert (p.attention is None) == (e.tiles is None) == (modality == "codex") and (e.codex is None) == (modality == "he")
    assert abs(e.gap) < 1e-3 and e.fold is None


def test_a_bag_of_ten_thousand_tiles_is_explained_in_little_memory():
    """At the published size: 64 passes at once would take 2.6 GB for the inputs alone."""
    import resource

    from ml.mica.config import MicaFitConfig
    from ml.mica.data import MicaBag, MicaInputs
    from ml.mica.model import MicaNet
    from ml.mica.weights import MicaFold, MicaWeights

    rng = np.random.default_rng(0)
    bag = MicaBag("P", "S", rng.normal(size=(10_000, 1024)).astype(np.float32), rng.normal(size=(4, 384)).astype(np.float32), tuple("abcd"))
    torch.manual_seed(0)
    config = MicaFitConfig()
    net = MicaNet(1024, 384, config).eval()
    weights = MicaWeights(config, MicaInputs(1024, 384, tuple("abcd"), "", ""), "OS", (MicaFold(net, BINS, {}),))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    e = explain(weights, bag, 0, MicaExplainConfig(steps=3))
    assert e.tiles.shape == (10_000,) and np.isfinite(e.tiles).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000, "kB"
