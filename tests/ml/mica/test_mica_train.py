"""A small MICA learns an interaction that neither bag shows, for patients that it never saw; can be stopped, and goes on where it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ml.mica.cohort import make_cohort, shuffled
from ml.mica.evaluate import compare
from ml.mica.train import fit, fit_modalities
from ml.training.loop import Cancelled


def test_it_learns_an_interaction_for_patients_that_it_never_saw(toy, toy_fit):
    table = compare(toy.outcomes, toy_fit.fold_of, {"MICA": toy_fit.risk, "truth": toy.hazard}, draws=200)
    mica, truth = table.rows
    assert mica.lower > 0.6 and mica.c > truth.c - 0.08, table
    assert mica.lower < mica.c < mica.upper and mica.n == 80 and mica.events == toy.outcomes.event.sum()
    assert mica.c == toy_fit.figures.c


@pytest.mark.parametrize("modality", ["he", "codex"])
def test_one_bag_alone_cannot_know_it(toy, toy_config, toy_fit, modality):
    alone = fit(toy.bags, toy.outcomes, toy_config.model_copy(update={"modality": modality, "epochs": 3}), folds=toy_fit.fold_of)
    assert 0.35 < alone.figures.c < 0.65 and alone.fold_of == toy_fit.fold_of
    difference = compare(toy.outcomes, toy_fit.fold_of, {"MICA": toy_fit.risk, "alone": alone.risk}).differences[0]
    assert difference.upper < 0


def test_shuffled_outcomes_give_a_c_of_a_half(toy, toy_config):
    cohort = make_cohort(toy.bags, toy.outcomes, toy_config)
    other = shuffled(cohort, toy_config, np.random.default_rng(7))
    null = fit(toy.bags, other.outcomes, toy_config.model_copy(update={"epochs": 3}))
    assert 0.38 < null.figures.c < 0.62


def test_the_outcome_of_a_held_out_patient_does_not_reach_her_risk(few, brief, few_fit):
    """She is said to have lived ten times longer: the risks of her fold stay, those of the other change (its intervals are hers, too)."""
    time = few.outcomes.time.copy()
    time[0] *= 10
    again = fit(few.bags, replace(few.outcomes, time=time), brief, folds=few_fit.fold_of)
    same = np.array([few_fit.fold_of[p] == few_fit.fold_of["P0"] for p in few.outcomes.patients])
    np.testing.assert_array_equal(again.risk[same], few_fit.risk[same])
    np.testing.assert_array_equal(again.probability[same], few_fit.probability[same])
    assert (again.risk[~same] != few_fit.risk[~same]).any()


def test_the_same_seed_gives_the_same_model_and_the_callers_random_state_is_left_alone(few, brief, few_fit):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = fit(few.bags, few.outcomes, brief)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(again.risk, few_fit.risk)
    other = fit(few.bags, few.outcomes, brief.model_copy(update={"seed": 4}), folds=few_fit.fold_of)
    assert (other.risk != few_fit.risk).all()


def test_the_record_says_what_was_done(toy, toy_fit):
    metrics = toy_fit.metrics()
    assert [f["stopped_by"] for f in metrics["folds"]] == ["steps", "steps"]
    assert [(f["slides"], f["patients"]) for f in metrics["folds"]] == [(40, 40), (40, 40)]
    assert sum(f["events"] for f in metrics["folds"]) == metrics["events"] == toy.outcomes.event.sum()
    assert abs(metrics["probability_predicted"] - metrics["probability_observed"]) < 0.1
    assert (toy_fit.risk > toy_fit.cut).mean() == 0.5 and len(metrics["c_by_fold"]) == 2
    assert ((toy_fit.risk > -4) & (toy_fit.risk < 0)).all() and ((toy_fit.probability > 0) & (toy_fit.probability < 1)).all()


def test_progress_rises_to_one_and_curves_are_recorded(few, brief, few_fit):
    heard, points = [], []
    config = brief.model_copy(update={"epochs": 2, "permutations": 1})
    done = fit(few.bags, few.outcomes, config, progress=lambda f, text: heard.append((f, text)), record=lambda *p: points.append(p))
    fractions = [f for f, _ in heard]
    assert fractions == sorted(fractions) and fractions[-1] == 1 and heard[0][1].startswith("Fold 1 of 2: step ")
    assert any(text.startswith("Shuffle 1 of 1: Fold 2 of 2") for _, text in heard)
    series = {name for name, _, _ in points}
    assert series == {f"fold {k} {what}" for k in (1, 2) for what in ("training", "held-out C")}
    assert [x for name, x, _ in points if name == "fold 1 held-out C"] == [1, 2]
    assert done.permutations.p in (0.5, 1.0) and done.permutations.runs == 1


def test_recording_changes_nothing(few, brief, few_fit):
    np.testing.assert_array_equal(fit(few.bags, few.outcomes, brief, record=lambda *point: None).risk, few_fit.risk)


def test_stopped_between_folds_it_goes_on_and_gives_the_same(few, brief, few_fit, tmp_path):
    texts = []
    with pytest.raises(Cancelled):
        fit(
            few.bags,
            few.outcomes,
            brief,
            progress=lambda _, text: texts.append(text),
            checkpoint_dir=tmp_path,
            stop=lambda: any("Fold 2" in t for t in texts),
        )
    assert [p.name for p in tmp_path.iterdir()] == ["fold0.safetensors"]
    texts.clear()
    resumed = fit(few.bags, few.outcomes, brief, progress=lambda _, text: texts.append(text), checkpoint_dir=tmp_path)
    assert not any("Fold 1" in t for t in texts) and any("Fold 2" in t for t in texts)
    np.testing.assert_array_equal(resumed.risk, few_fit.risk)
    other = brief.model_copy(update={"lr": 1e-4})
    fit(few.bags, few.outcomes, other, progress=lambda _, text: texts.append(text), checkpoint_dir=tmp_path)
    assert any("Fold 1" in t for t in texts), "a fold of another config must not be taken for this one's"


def test_stopped_within_a_fold_it_goes_on_from_the_last_epochs(few, brief, tmp_path):
    config = brief.model_copy(update={"epochs": 3})
    seen = []
    with pytest.raises(Cancelled):
        fit(few.bags, few.outcomes, config, checkpoint_dir=tmp_path, stop=lambda: seen.append(0) or len(seen) > 30)
    resumed = fit(few.bags, few.outcomes, config, checkpoint_dir=tmp_path, stop=lambda: seen.append(1) and False)
    assert seen.count(1) < 2 * (3 * 12 + 1), "its first epochs were not done again"
    np.testing.assert_array_equal(resumed.risk, fit(few.bags, few.outcomes, config).risk)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fold0.safetensors", "fold1.safetensors"]


def test_several_slides_of_a_patient_stay_together_and_her_risk_is_their_mean(few, brief):
    more = [replace(b, slide=f"{b.slide} again", tiles=b.tiles + 1) for b in few.bags[:6]]
    done = fit([*few.bags, *more], few.outcomes, brief)
    assert done.slides == 30 and len(done.risk) == 24
    from ml.mica.predict import predict

    held = done.fold_of["P0"]
    ours = predict(done.weights, [few.bags[0], more[0]], fold=held)[0]
    assert ours.slides == ("S0", "S0 again") and ours.risk == pytest.approx(done.risk[0])
    assert ours.probability == pytest.approx(done.probability[0])


def test_inputs_on_any_scale_can_be_standardised(few, brief):
    config = brief.model_copy(update={"standardise": True})
    plain = fit(few.bags, few.outcomes, config)
    far = [replace(b, tiles=b.tiles * 1000 + 50, codex=b.codex * 0.01 - 3) for b in few.bags]
    np.testing.assert_allclose(fit(far, few.outcomes, config).risk, plain.risk, atol=2e-3)


def test_patients_who_entered_late_can_be_fitted(few, brief):
    entry = few.outcomes.time * 0.4
    late = fit(few.bags, replace(few.outcomes, entry=entry), brief)
    assert np.isfinite(late.risk).all() and np.isfinite(late.figures.c)


def test_all_three_on_the_same_folds(few, brief):
    fits = fit_modalities(few.bags, few.outcomes, brief)
    assert list(fits) == ["MICA", "H&E alone", "CODEX alone"]
    assert len({tuple(f.fold_of.items()) for f in fits.values()}) == 1
    table = compare(few.outcomes, fits["MICA"].fold_of, {name: f.risk for name, f in fits.items()}, draws=100)
    assert [r.name for r in table.rows] == list(fits) and [d.against for d in table.differences] == ["MICA", "MICA"]
    for difference, row in zip(table.differences, table.rows[1:]):
        assert difference.difference == pytest.approx(row.c - table.rows[0].c)
