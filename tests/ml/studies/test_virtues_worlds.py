"""The simulated cohorts of VirTues and retrieval: figures are what they say, a second run computes nothing, the truth is the ceiling."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, f1_score

from ml.studies import virtues_worlds as study
from ml.studies.cells import Cells
from ml.studies.virtues_worlds_counts import (
    adjusted_rand,
    by_patient,
    chance,
    cluster_counts,
    confusions,
    macro_f1,
    nearest,
    others,
    overlap,
    precision,
    rank_agreement,
    redrawn,
)
from ml.studies.virtues_worlds_fields import cell_means, fields, mean_intensities, sample, shared_proteins, standard
from ml.studies.virtues_worlds_report import complete, report, retrieval_figures

TINY = replace(
    study.Size(), seeds=(0,), patients=12, reference=2, tissues=(1, 1), size_px=256, patches=40, cells=40, folds=2, worlds=("two panels",)
)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    made = Cells(tmp_path_factory.mktemp("worlds"), say=lambda line: None)
    study.run(made, TINY)
    return made


# --- figures made of counts


def test_adjusted_rand_and_macro_f1_are_those_of_sklearn():
    rng = np.random.default_rng(0)
    truth, label = rng.integers(0, 4, 300), rng.integers(0, 3, 300)
    label[:150] = truth[:150] % 3
    counts = np.zeros((4, 4), int)
    np.add.at(counts, (truth, label), 1)
    assert adjusted_rand(counts) == pytest.approx(adjusted_rand_score(truth, label))
    assert macro_f1(counts) == pytest.approx(f1_score(truth, label, average="macro", labels=range(4)))
    assert adjusted_rand(counts[:1]) == 0
    counts[3] = 0
    seen = truth < 3
    assert macro_f1(counts) == pytest.approx(f1_score(truth[seen], label[seen], average="macro", labels=range(3)))


def test_redrawing_patients_keeps_the_figure_and_is_wider_with_fewer():
    rng = np.random.default_rng(1)
    counts = rng.poisson(np.eye(3) * 6 + 2, (40, 3, 3))
    value, draws = redrawn(counts, macro_f1, 300, 0)
    assert value == macro_f1(counts.sum(axis=0)) and abs(draws.mean() - value) < 0.02
    assert redrawn(counts[:5], macro_f1, 300, 0)[1].std() > draws.std()


def test_clusters_find_what_is_apart_and_no_patient_is_judged_by_a_probe_that_saw_her():
    rng = np.random.default_rng(2)
    truth, patient = np.repeat([0, 1, 2], 60), np.tile(np.arange(6), 30)
    x = rng.normal(size=(180, 4)) + 8 * np.eye(3, 4)[truth]
    counts = cluster_counts(x, truth, patient, 3, 0)
    assert counts.shape == (6, 3, 3) and counts.sum() == 180 and adjusted_rand(counts.sum(axis=0)) == 1
    # one column names the patient, and each patient has a kind of her own: only a probe that saw her could know
    own = np.eye(6)[patient]
    assert np.trace(confusions(own, patient, patient, patient % 2, 6).sum(axis=0)) == 0
    assert macro_f1(confusions(x, truth, patient, patient % 2, 3).sum(axis=0)) == 1


# --- retrieval


def test_hits_are_of_other_patients_and_figures_count_them():
    patient = np.repeat(np.arange(6), 2)
    place = np.arange(12.0)
    distance, allowed = np.abs(place[:, None] - place[None]), others(patient)
    hits = nearest(distance, allowed, 3)
    assert hits[0].tolist() == [2, 3, 4] and all((patient[h] != patient[i]).all() for i, h in enumerate(hits))
    assert precision(hits, patient).max() == 0 and overlap(hits, hits).min() == 1
    assert overlap(np.array([[0, 1]]), np.array([[1, 2]])).tolist() == [0.5]
    label = np.arange(12) % 2
    assert precision(hits, label)[0] == pytest.approx(2 / 3) and chance(label, allowed) == pytest.approx(np.full(12, 0.5))
    assert rank_agreement(distance**3, distance, allowed) == pytest.approx(np.ones(12))
    assert rank_agreement(-distance, distance, allowed) == pytest.approx(-np.ones(12))
    with pytest.raises(ValueError, match="fewer than 11"):
        nearest(distance, allowed, 11)


def test_a_patient_counts_once_however_many_fields_she_has():
    value, draws = by_patient(np.array([1.0, 1, 1, 0]), [0, 0, 0, 1], 500, 0)
    assert value == 0.5 and set(np.unique(draws)) == {0.0, 0.5, 1.0}


# --- representations


def test_mean_intensities_are_means_of_pixels():
    config = TINY.config("two panels")
    field = fields(2, 5, config)[0]
    m, proteins = field.image(), shared_proteins(config.panels)
    assert set(proteins) <= set(m.uniprot) and len(proteins) == 11
    levels = cell_means(m.image, m)
    k = len(m.cells) // 3
    assert levels[k] == pytest.approx(m.image[:, m.mask == m.cells.id[k]].mean(axis=1), rel=1e-5)
    embed = mean_intensities(standard([field]), proteins)
    e = embed(m)
    assert e.patches.shape == (32, 32, len(proteins)) and e.cells.shape == (len(m.cells), len(proteins))
    if len(e.niches) == 4:
        assert e.niches[0] == pytest.approx(e.patches[:16, :16].mean(axis=(0, 1)), abs=1e-4)
    wide = mean_intensities(standard([field]), proteins, 12.0)(m)
    assert np.array_equal(wide.cells[:, : len(proteins)], e.cells) and wide.cells.shape[1] == 2 * len(proteins)
    assert wide.patches[..., len(proteins) :].std() < e.patches.std()


def test_every_representation_is_asked_about_the_same_patches_and_cells():
    given = fields(2, 5, TINY.config("two panels"))
    norm, proteins = standard(given), shared_proteins(("broad", "stroma"))
    one, two = (sample(given, mean_intensities(norm, proteins, c), 20, 15) for c in (0.0, 6.0))
    assert np.array_equal(one.patch_niche, two.patch_niche) and np.array_equal(one.cell_kind, two.cell_kind)
    assert len(one.patches) == 20 * len(given) and len(one.cells) == 15 * len(given) and (one.patch_niche > 0).all()


# --- the study


def test_a_second_run_computes_nothing_and_a_lost_cell_alone_is_made_again(cells):
    assert len(cells.computed) == 3
    (cells.folder / "virtues-worlds__two-panels__0__mean-intensities.json").unlink()
    again = Cells(cells.folder, say=lambda line: None)
    study.run(again, TINY)
    assert again.computed == ["virtues-worlds__two-panels__0__mean-intensities"]


def test_the_truth_is_the_ceiling_and_a_random_draw_the_floor(cells):
    (cohort,) = complete(cells.all(), "two panels")
    figures = retrieval_figures(cohort, 0)
    truth, random = figures["true niches (ceiling)"], figures["random draw"]
    assert truth["Spearman"][0] == pytest.approx(1) and truth["true top 10 found"][0] == 1
    for name, row in figures.items():
        if name not in ("true niches (ceiling)", "random draw"):
            assert row["Spearman"][0] < 1 and row["true top 10 found"][0] >= random["true top 10 found"][0] - 0.15
    assert figures["mean intensities, 2-Wasserstein"]["Spearman"][0] > 0.1


def test_a_constant_representation_finds_nothing(cells):
    (cohort,) = complete(cells.all(), "two panels")
    n = len(cohort["cohort"]["patient"])
    cohort["mean intensities"] = {**cohort["mean intensities"], "sets": np.zeros((n, n)).tolist()}
    assert retrieval_figures(cohort, 0)["mean intensities, 2-Wasserstein"]["Spearman"][0] == 0


def test_the_tables_hold_every_row_and_say_what_was_run(cells):
    text = report(cells.all())
    assert "## Two panels: 1 cohorts" in text and "panels: broad, stroma" in " ".join(text.split())
    for row in ("mean intensities", "mean intensities and surroundings", "colours of H&E", "true niches (ceiling)", "random draw"):
        assert f"| {row}" in text
    assert "cannot be told apart" in text or "is above" in text
    assert "VirTues" not in text and report([]) == "Nothing is computed yet.\n"
    json.dumps(cells.all())


def test_only_rows_that_every_cohort_has_are_averaged():
    def cell(seed, variant):
        return {"key": {"task": "virtues-worlds", "world": "tied", "seed": seed, "variant": variant}, "result": {"seed": seed}}

    made = [cell(0, "cohort"), cell(0, "VirTues"), cell(1, "cohort"), cell(2, "VirTues")]
    assert [sorted(c) for c in complete(made, "tied")] == [["cohort"], ["cohort"]]
    assert complete(made, "independent") == []
