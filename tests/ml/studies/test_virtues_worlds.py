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
from ml.studies.virtues_worlds_discovery import Discovery, auroc, uniform_p
from ml.studies.virtues_worlds_documents import END, START, put, sections
from ml.studies.virtues_worlds_fields import cell_means, fields, mean_intensities, sample, shared_proteins, standard
from ml.studies.virtues_worlds_network import Training
from ml.studies.virtues_worlds_report import complete, retrieval_figures

TINY = replace(
    study.Size(),
    patients=12,
    reference=2,
    size_px=256,
    patches=40,
    cells=40,
    cell_every=3,
    folds=2,
    worlds=("two panels",),
    typed=("two panels",),
    reconstructed=2,
    training=Training(width=16, pattern="hv", patients=2, epochs=(1, 1), cell_stride=128, cell_pad=0),
    discovery=Discovery(patients=16, cells=50, step=1.0, folds=2, joint_repeats=2, shuffles=3, permutations=3, true_permutations=3),
)
ROWS = ("cohort", "mean-intensities", "mean-intensities-and-surroundings", "VirTues")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    made = Cells(tmp_path_factory.mktemp("worlds"), say=lambda line: None)
    study.run(made, TINY)
    study.shuffle(made, TINY, 0)
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


def test_hits_and_their_precision_are_those_of_the_product():
    from ml.transport.metrics import chance_precision, precision_per_query, without_own

    rng = np.random.default_rng(4)
    patient, label, distance = np.repeat(np.arange(10), 2), rng.choice(["a", "b", "c"], 20), rng.random((20, 20))
    ranking, allowed = without_own(distance, [str(p) for p in patient], [str(p) for p in patient]), others(patient)
    assert precision(nearest(distance, allowed, 5), label) == pytest.approx(precision_per_query(ranking, label, label, 5))
    assert chance(label, allowed) == pytest.approx(chance_precision(ranking, label, label))


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


# --- the study: what is there is not computed again (first, while its fields are still in memory)


def test_a_second_run_computes_nothing_and_a_lost_cell_alone_is_made_again(cells):
    assert {name.split("__")[-1] for name in cells.computed if "virtues-worlds" in name} == set(ROWS) and len(cells.computed) == 8
    (cells.folder / "virtues-worlds__two-panels__0__mean-intensities.json").unlink()
    again = Cells(cells.folder, say=lambda line: None)
    study.run(again, TINY)
    study.shuffle(again, TINY, 0)
    assert again.computed == ["virtues-worlds__two-panels__0__mean-intensities"]


# --- the network


def test_the_network_is_seen_as_the_product_embeds(cells):
    from ml.studies.virtues_worlds_network import DATASET, multiplex, virtues
    from ml.virtues.embed import embed, retrieval_set
    from ml.virtues.embed_config import VirtuesEmbedConfig
    from ml.virtues.panel import prepare
    from ml.virtues.weights import load

    folder = cells.folder / "network-0"
    kept, m = load(folder), fields(12, 0, TINY.config("two panels"))[0].image()
    ready = prepare(multiplex(m), m.uniprot, kept.bank, kept.standards[DATASET])
    config = VirtuesEmbedConfig(cell_stride_px=128, cell_pad_px=0, min_tissue=0.3)
    product, ours = embed(kept.model, ready, m.mask, config, device="cpu"), virtues(folder, TINY.training)(m, True)
    assert ours.niches == pytest.approx(product.niches, abs=1e-5) and ours.cells == pytest.approx(product.cells.tokens, abs=1e-5)
    assert np.array_equal(product.cells.ids, m.cells.id) and ours.patches.shape == (32, 32, 16)
    assert len(retrieval_set(product, config)[1]) <= len(ours.niches)
    untrained = virtues(folder, TINY.training, trained=False, seed=0)(m, False)
    assert untrained.cells.shape == (0, 16) and np.abs(untrained.niches - ours.niches).max() > 0.01
    assert len(kept.membership) == 2


def test_nobody_of_the_cohort_was_trained_on():
    config = TINY.config("two panels")
    of_cohort = [f.patient for f in study.cohort(TINY, "two panels", 0)]
    trained = fields(TINY.training.patients, study.REFERENCE_SEED, config)
    assert not {p.seed for p in of_cohort} & {f.patient.seed for f in trained}


# --- cell types and discovery


def test_our_probe_is_the_one_of_discovery():
    from ml.discovery.cell_typing import fit_cell_types
    from ml.discovery.config import CellTypingConfig

    config = TINY.config("two panels")
    given = fields(4, 5, config)
    s = sample(given, mean_intensities(standard(given), shared_proteins(config.panels)), 1, 120)
    patient = s.cell_field
    counts = confusions(s.cells, s.cell_kind, patient, patient % 2, 15)
    held = tuple(sorted({str(p) for p in patient if p % 2 == 0}))
    probe = CellTypingConfig(scaling="standard", bootstrap=10)
    theirs = fit_cell_types(s.cells, [f"{k:02d}" for k in s.cell_kind], [str(p) for p in patient], probe, held)
    assert macro_f1(counts[::2].sum(axis=0)) == pytest.approx(theirs.scores.macro[0], abs=0.01)


def test_shuffled_outcomes_are_kept_with_the_true_ones(cells):
    (found,) = (c["result"] for c in cells.all() if c["key"]["task"] == "virtues-discovery")
    assert found["patients"] == 16 and len(found["nulls"]) == 3 and 0 < found["responders"] < 16
    assert {n["p"] * 4 for n in found["nulls"]} <= {1.0, 2.0, 3.0, 4.0} and found["clusters"] > 1


def test_uniform_p_is_told_from_small_ones():
    p = np.tile(np.arange(1, 21) / 20, 3)
    assert uniform_p(p, 19)[1] > 0.5 and uniform_p(p**2, 19)[1] < 0.01
    score, yes = np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True])
    assert auroc(score, yes) == pytest.approx(3.5 / 4)


# --- the study


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


def test_the_documents_hold_every_row_and_say_what_was_run(cells):
    found = sections(cells.all(), TINY)
    retrieval, virtues = found["retrieval.md"], found["virtues.md"]
    rows = ("VirTues, 2-Wasserstein", "mean intensities, cosine of means", "colours of H&E", "true niches (ceiling)", "random draw")
    for row in (*rows, "VirTues, 2-Wasserstein, less mean intensities, 2-Wasserstein"):
        assert f"| {row} |" in retrieval
    assert "McNemar against three random draws" in retrieval
    assert "panels: broad, stroma" in " ".join(retrieval.split())
    assert "cannot be told apart" in retrieval or "is above" in retrieval or "is below" in retrieval
    for row in (
        "VirTues",
        "VirTues, not trained",
        "VirTues less mean intensities and surroundings",
        "by channel",
        "nested AUROC",
        "64 px",
        "128 px",
    ):
        assert f"| {row} |" in virtues
    for text in found.values():
        assert "nan" not in text and str(cells.folder) not in text and "not trained, 2-W" not in text
    assert set(sections([], TINY).values()) == {"## Simulated cohorts\n\nNothing is computed yet."}
    json.dumps(cells.all())


def test_a_section_replaces_itself_and_nothing_else(tmp_path):
    path = tmp_path / "retrieval.md"
    put(path, "one")
    path.write_text(path.read_text() + "\n<!-- scale -->\nof another\n<!-- /scale -->\n")
    put(path, "two")
    assert path.read_text().count(START) == path.read_text().count(END) == 1
    assert "of another" in path.read_text() and "two" in path.read_text() and "one" not in path.read_text()
    assert path.read_text().startswith("# Retrieval")


def test_only_rows_that_every_cohort_has_are_averaged():
    def cell(seed, variant):
        return {"key": {"task": "virtues-worlds", "world": "tied", "seed": seed, "variant": variant}, "result": {"seed": seed}}

    made = [cell(0, "cohort"), cell(0, "VirTues"), cell(1, "cohort"), cell(2, "VirTues")]
    assert [sorted(c) for c in complete(made, "tied")] == [["cohort"], ["cohort"]]
    assert complete(made, "independent") == []
