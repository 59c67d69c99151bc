"""The main job from simulated slides to maps, niches, risks and similar cases, with every number's source."""

import numpy as np
import pytest
from reference_six import HEX_CONFIG

from tissueboard.accounts.models import User
from tissueboard.cohorts.models import Endpoint, Patient
from tissueboard.errors import TissueboardError
from tissueboard.jobs.models import Job
from tissueboard.jobs.services import enqueue
from tissueboard.model_registry.models import Member, ModelVersion
from tissueboard.model_registry.services import choose_fold, hash_of
from tissueboard.outcomes.services import survival
from tissueboard.pipelines.services import plan, plan_case, run_pipeline
from tissueboard.predictions import risk_view
from tissueboard.predictions.maps import card, limits, load_map
from tissueboard.predictions.models import Prediction
from tissueboard.predictions.risk_view import risk_of_patient
from tissueboard.predictions.selectors import maps_of_slide
from tissueboard.retrieval.models import Niche
from tissueboard.retrieval.services import similar_cases
from tissueboard.slides.models import Slide

pytestmark = pytest.mark.django_db
TINY = {
    "width": 16,
    "heads": 2,
    "ffn": 16,
    "layers": 1,
    "bins": 2,
    "folds": 2,
    "epochs": 3,
    "accumulate": 2,
    "bootstrap": 50,
    "horizon_days": 200,
}


@pytest.fixture
def manager(reference):
    return User.objects.get(username="manager")


def test_every_job_of_the_chain_succeeded_once(reference):
    assert [(j.kind, j.state, j.error_sentence, j.traceback) for j in Job.objects.exclude(state="succeeded")] == []
    n = Patient.objects.count()
    counts = {
        kind: Job.objects.filter(kind=kind).count() for kind in ("predictions.virtual_map", "retrieval.niches", "predictions.fit_risk")
    }
    assert counts == {"predictions.virtual_map": n, "retrieval.niches": n, "predictions.fit_risk": 1}


def test_maps_know_their_pitch_their_source_and_their_fold(reference, manager):
    for slide in Slide.objects.all():
        (prediction,) = maps_of_slide(manager, slide)
        virtual = load_map(prediction)
        assert virtual.values.shape[0] == len(virtual.names) == 40 and virtual.pitch_um == pytest.approx(56, rel=0.02)
        assert np.isfinite(virtual.values).any() and np.nanmin(virtual.values) >= 0
        assert prediction.version.label == "trained on simulated tissue"
        assert prediction.inputs == {"working slide": slide.working_sha256, "weights": prediction.version.sha256}
        assert prediction.code_version and not prediction.in_sample
        # The fold that made it never saw her.
        digest = hash_of(slide.sample.patient)
        assert not Member.objects.filter(version=prediction.version, fold=prediction.fold, patient_hash=digest).exists()
        assert Member.objects.filter(version=prediction.version, patient_hash=digest).exists()


def test_a_patient_whom_no_fold_saw_gets_the_mean_and_one_whom_all_saw_is_in_sample(reference):
    version = ModelVersion.objects.get(family="hex")
    fresh = Patient.objects.create(cohort=reference, code="never seen")
    assert choose_fold(version, fresh, 2).fold is None
    for fold in (0, 1):
        Member.objects.create(version=version, fold=fold, patient_hash=hash_of(fresh))
    assert choose_fold(version, fresh, 2).in_sample


def test_limits_and_card_are_kept_for_every_marker(reference):
    version = ModelVersion.objects.get(family="hex")
    assert set(limits(version)) == set(card(version)) == set(version.panel)
    assert all(low < high for low, high in limits(version).values())
    assert all(row["locked"] == (row["r2"] is None or row["r2"] < 0.10) for row in card(version).values())
    assert not card(version)["Pan-Cytokeratin"]["locked"]


def test_hex_stands_beside_its_baselines_on_the_same_patients(reference):
    rows = {row["name"]: row for row in ModelVersion.objects.get(family="hex").metrics["comparison"]}
    assert list(rows) == ["HEX", "slide mean", "nuclear density", "ridge on colour and texture"]
    assert rows["slide mean"]["r"] == 0 and rows["slide mean"]["r2"] == pytest.approx(0, abs=1e-6)
    assert rows["HEX"]["r"] > 0 and rows["HEX"]["r2"] > rows["slide mean"]["r2"]


def test_the_effective_resolution_is_measured_and_goes_with_every_map(reference):
    version = ModelVersion.objects.get(family="hex")
    curve = version.metrics["resolution_curve"]
    assert [round(um) for um, _, _ in curve] == [56 * (i + 1) for i in range(len(curve))] and all(pairs >= 50 for *_, pairs in curve)
    assert version.metrics["effective_resolution_um"] == next((um for um, r, _ in curve if r >= 0.5), None)
    for prediction in Prediction.objects.filter(kind="virtual map"):
        assert prediction.facts["effective_resolution_um"] == version.metrics["effective_resolution_um"]


def test_so_few_patients_calibrate_no_interval_and_every_map_says_so(reference):
    told = ModelVersion.objects.get(family="hex").metrics["conformal"]
    why = "fewer than 9 calibration patients"
    assert (told["patients"], told["alpha"], told["why_none"]) == (Patient.objects.count(), 0.1, why) and told["half_width"] == [None] * 40
    for prediction in Prediction.objects.filter(kind="virtual map"):
        assert load_map(prediction).spread is None and prediction.facts["interval"]["why_none"] == why


def test_risks_are_out_of_fold_and_carry_their_reference(reference, manager, monkeypatch):
    # Three patients on small slides make a narrow range; what is shown inside it is looked at here.
    monkeypatch.setattr(risk_view, "MOST_OUT_OF_RANGE", 1.0)
    for patient in Patient.objects.filter(endpoints__name="OS"):
        view = risk_of_patient(manager, patient)
        assert view.why_none == "" and view.held_out
        assert 0 <= view.lower <= view.probability <= view.upper <= 1
        assert (view.reference_n, view.reference_events) == (6, 6) and view.group in ("higher", "lower")
        assert 0 < view.permutation_p <= 1 and view.c_lower <= view.c_index <= view.c_upper
        assert view.version.cohorts.get() == reference


def test_no_risk_is_shown_out_of_range_or_in_sample(reference, manager, monkeypatch):
    prediction = Prediction.objects.filter(kind="risk").first()
    monkeypatch.setattr(risk_view, "MOST_OUT_OF_RANGE", -0.01)
    view = risk_of_patient(manager, prediction.patient)
    assert view.probability is None and "unlike what the protein model was trained on" in view.why_none and view.reference_n == 6
    monkeypatch.setattr(risk_view, "MOST_OUT_OF_RANGE", 1.0)
    Prediction.objects.filter(pk=prediction.pk).update(in_sample=True)
    view = risk_of_patient(manager, prediction.patient)
    assert view.probability is None and "saw this patient" in view.why_none


def test_the_nearest_tissue_is_the_one_that_a_plain_loop_finds(reference, manager):
    from ml.transport.wasserstein import wasserstein2

    slides = list(Slide.objects.all())
    query = slides[0]
    sets = {}
    for slide in slides:
        niches = list(Niche.objects.filter(slide=slide).order_by("rank"))
        weights = np.array([n.weight for n in niches])
        sets[slide.pk] = (np.array([n.vector for n in niches], dtype=np.float32), weights / weights.sum())
    expected = sorted((wasserstein2(*sets[query.pk], *sets[s.pk]), s.pk) for s in slides[1:])
    found = similar_cases(manager, query, k=3)
    assert [(h.slide.pk, pytest.approx(h.distance)) for h in found.hits] == [(pk, d) for d, pk in expected[:3]]
    assert found.n_candidates == 5 and 3 <= found.n_fully_compared <= 5
    for hit in found.hits:
        assert hit.patient != query.sample.patient and 0 <= hit.percentile <= 100
        assert hit.matches and sum(pair.mass for pair in hit.matches) <= 1 + 1e-9
        assert hit.outcome.name == "OS" and hit.treatments


def test_the_same_picture_under_another_code_is_no_similar_case(reference, manager):
    query = Slide.objects.first()
    before = similar_cases(manager, query, k=5)
    niches = list(Niche.objects.filter(slide=query))
    patient, sample, twin, made = query.sample.patient, query.sample, Slide.objects.get(pk=query.pk), niches[0].prediction
    patient.pk, patient.code = None, "twin"
    patient.save(force_insert=True)
    sample.pk, sample.patient = None, patient
    sample.save(force_insert=True)
    twin.pk, twin.name, twin.sample, twin.working_sha256 = None, "S-twin", sample, "f" * 64
    twin.save(force_insert=True)
    made.pk, made.slide, made.patient = None, twin, patient
    made.save(force_insert=True)
    for niche in niches:
        niche.pk, niche.slide, niche.patient, niche.prediction = None, twin, patient, made
    Niche.objects.bulk_create(niches)
    query = Slide.objects.get(pk=before.query_slide.pk)
    other_bytes = similar_cases(manager, query, k=5)
    assert other_bytes.hits[0].slide == twin and other_bytes.hits[0].distance == pytest.approx(0, abs=1e-3)
    Slide.objects.filter(pk=twin.pk).update(working_sha256=query.working_sha256)
    same_bytes = similar_cases(manager, query, k=5)
    assert [h.slide for h in same_bytes.hits] == [h.slide for h in before.hits] and same_bytes.n_candidates == before.n_candidates


def test_a_stranger_finds_nobody_and_nothing(reference):
    outsider = User.objects.get(username="outsider")
    slide = Slide.objects.first()
    assert similar_cases(outsider, slide).hits == [] and maps_of_slide(outsider, slide) == []
    assert risk_of_patient(outsider, slide.sample.patient).probability is None


def test_asking_twice_for_the_case_pipeline_runs_nothing_twice(reference, manager):
    slide = Slide.objects.first()
    before = Job.objects.count()
    jobs = run_pipeline(manager, "case", slides=[slide])
    assert {j.kind for j in jobs} == {"predictions.virtual_map", "retrieval.niches", "predictions.risk"}
    assert Job.objects.count() == before + 1, "only the risk of one patient is new; map and niches were there"


def test_a_plan_says_what_cannot_run_and_why(reference, manager):
    from tissueboard.cohorts.services import create_cohort

    other = create_cohort(manager, "no models here")
    slide = Slide.objects.first()
    patient = Patient.objects.create(cohort=other, code="new")
    slide.sample.patient = patient
    steps = {p.step.kind: p for p in plan_case(manager, slide)}
    assert steps["predictions.virtual_map"].version is not None
    assert steps["predictions.risk"].version is None and "no model of the family cox_summary" in steps["predictions.risk"].why_not


def test_the_plan_of_the_cohort_finds_all_that_the_chain_made(reference, manager):
    """Also the risks, which came with the fit of their model and not one by one."""
    from tissueboard.pipelines.cohort_plan import plan_cohort

    plan = plan_cohort(manager, reference, "case")
    assert [(row.step.kind, row.plan, row.reason) for row in plan.rows if row.plan != "exists"] == [] and plan.n_exists == 18
    first = Slide.objects.first()
    Slide.objects.filter(pk=first.pk).update(working_sha256="e" * 64)
    plan = plan_cohort(manager, reference, "case")
    assert [(row.step.kind, row.slide) for row in plan.rows if row.plan == "run"] == [
        ("predictions.virtual_map", first),
        ("retrieval.niches", first),
        ("predictions.risk", first),
    ]


def test_sending_a_finished_training_again_changes_nothing(reference):
    """A second delivery of a stage finds its jobs and makes no second version."""
    from tissueboard.pipelines.reference import train_reference

    versions = ModelVersion.objects.count()
    train_reference(None, [reference], name="six", config=HEX_CONFIG)
    assert ModelVersion.objects.count() == versions and not Job.objects.exclude(state="succeeded").exists()


def test_predictions_of_one_slide_are_unique_per_kind_and_version(reference):
    from django.db import IntegrityError, transaction

    first = Prediction.objects.filter(kind="virtual map").first()
    with pytest.raises(IntegrityError), transaction.atomic():
        Prediction.objects.create(
            kind=first.kind, patient=first.patient, slide=first.slide, version=first.version, job=first.job, inputs={}, code_version="x"
        )


def test_a_same_person_in_another_cohort_fills_one_place_only(reference, manager):
    """The tissue of a neighbour, registered under her code in a second cohort too, is shown once."""
    from tissueboard.cohorts.models import Sample
    from tissueboard.cohorts.services import create_cohort

    query, other = Slide.objects.order_by("pk")[:2]
    before = [hit.patient.code for hit in similar_cases(manager, query, k=5).hits]
    second = create_cohort(manager, "the same person again", simulated=True)
    patient = Patient.objects.create(cohort=second, code=other.sample.patient.code)
    sample = Sample.objects.create(patient=patient, code="again")
    niches, prediction = list(Niche.objects.filter(slide=other)), Prediction.objects.get(slide=other, kind="niche set")
    other.pk, other.sample, other.working_sha256 = None, sample, "another scan"
    other.save()
    prediction.pk, prediction.slide, prediction.patient = None, other, patient
    prediction.save()
    for niche in niches:
        niche.pk, niche.slide, niche.patient, niche.prediction = None, other, patient, prediction
        niche.save()
    found = similar_cases(manager, query, k=5)
    assert [hit.patient.code for hit in found.hits] == before and found.n_candidates == 6


# --- MICA on the same six


@pytest.fixture
def train(reference, run_jobs):
    def go(name="m", **config):
        hex_version = ModelVersion.objects.get(family="hex")
        params = {"cohort": reference.pk, "version": hex_version.pk, "endpoint": "OS", "name": name, "config": {**TINY, **config}}
        job = enqueue(None, "predictions.fit_mica", params, cohorts=[reference])
        run_jobs()
        job.refresh_from_db()
        return job

    return go


def test_from_training_to_the_risk_of_every_patient(reference, manager, train, monkeypatch):
    monkeypatch.setattr(risk_view, "MOST_OUT_OF_RANGE", 1.0)
    job = train()
    assert (job.state, job.error_sentence, job.traceback) == ("succeeded", "", "")
    version = ModelVersion.objects.get(family="mica")
    assert version.label == "trained on simulated tissue" and version.cohorts.get() == reference
    assert version.metrics["he_encoder"] == "six:fold0" and version.metrics["codex_encoder"] == "fixed-map-descriptors"
    assert [row["name"] for row in version.metrics["modalities"]] == ["MICA", "H&E alone", "CODEX alone"]
    assert {"less", "less_lower", "less_upper"} <= version.metrics["modalities"][1].keys()
    n = Patient.objects.count()
    assert Job.objects.filter(kind="predictions.mica", state="succeeded").count() == n
    for patient in Patient.objects.all():
        view = risk_of_patient(manager, patient)
        assert view.version == version and view.held_out and view.permutation_p is None and view.why_none == ""
        assert 0 <= view.lower <= view.probability <= view.upper <= 1
        assert [v.family for v in view.others] == ["cox_summary"]
        assert not Member.objects.filter(version=version, fold=view.prediction.fold, patient_hash=hash_of(patient)).exists()
        (other,) = view.others
        assert risk_of_patient(manager, patient, other.pk).version == other
    groups = survival(manager, reference, "OS", f"risk:{version.pk}").groups
    assert sum(g.n for g in groups) == n
    assert survival(manager, reference, "OS", "risk").groups == groups, "the newest risk model is the one that is shown"


def test_what_a_risk_comes_from_is_a_map_over_the_slide(reference, train):
    train("shown")
    version = ModelVersion.objects.get(name="shown")
    shown = Prediction.objects.filter(kind="explanation", version=version)
    assert shown.count() == Slide.objects.count()
    for prediction in shown:
        virtual, bag = load_map(prediction), Prediction.objects.get(slide=prediction.slide, kind="feature bag")
        assert np.isfinite(virtual.values).sum() == bag.facts["n_tiles"] == prediction.facts["n_tiles"]
        assert prediction.facts["relative_gap"] < 0.5 and prediction.facts["limit"] > 0
        risk = Prediction.objects.get(patient=prediction.patient, kind="risk", version=version)
        names = [name for name, _ in risk.facts["explanation"]["markers"]]
        assert len(set(names)) == len(names) == 10 and set(names) <= set(version.panel)


def test_contributions_can_be_taken_away_where_the_risk_is_shown(reference, manager, train, monkeypatch):
    from rest_framework.test import APIClient

    from tissueboard.accounts.services import issue_token

    train("taken")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_token(manager)[0]}")
    patient = Patient.objects.first()
    address = f"/api/v1/patients/{patient.pk}/risk/contributions/"
    monkeypatch.setattr(risk_view, "MOST_OUT_OF_RANGE", 1.0)
    told = client.get(address).json()
    shown = Prediction.objects.get(patient=patient, kind="explanation", version__name="taken")
    assert told["why_none"] == "" and len(told["tiles"]) == shown.facts["n_tiles"] and len(told["markers"]) == 10
    other = ModelVersion.objects.get(family="cox_summary")
    assert "does not tell" in client.get(address, {"version": other.pk}).json()["why_none"]
    monkeypatch.setattr(risk_view, "MOST_OUT_OF_RANGE", -0.01)
    hidden = client.get(address).json()
    assert hidden["tiles"] == [] and hidden["markers"] == [] and "unlike" in hidden["why_none"]


def test_one_branch_alone_can_be_trained(train):
    assert train("he", modality="he").state == "succeeded"
    assert "modalities" in ModelVersion.objects.get(name="he").metrics
    assert train("codex", modality="codex").state == "succeeded"
    assert not Prediction.objects.filter(kind="explanation", version__name="codex").exists()
    for risk in Prediction.objects.filter(kind="risk", version__name="codex"):
        assert len(risk.facts["explanation"]["markers"]) == 10, "its markers are told, though it has no tiles"


def test_the_mica_pipeline_takes_the_maps_that_are_there(reference, train):
    train("planned")
    steps = plan(None, "mica", Slide.objects.first())
    assert [(p.step.kind, p.version.family) for p in steps] == [("predictions.virtual_map", "hex"), ("predictions.mica", "mica")]


def test_outcomes_and_encoders_that_do_not_do_are_refused_with_a_sentence(reference, train):
    job = train("dino", codex_encoder="dinov2-s14-reg")
    assert (job.state, job.error_code) == ("failed", "ENCODER_MISSING") and "Encoders" in job.error_hint
    Endpoint.objects.filter(patient__cohort=reference, name="OS").update(event=False)
    job = train("nobody died")
    assert (job.state, job.error_code) == ("failed", "ALL_CENSORED") and job.error_sentence.endswith(".")
    Endpoint.objects.filter(patient__cohort=reference, name="OS").update(event=True, time_days=100.0)
    assert train("one time").error_code == "TOO_FEW_EVENT_TIMES"
    Endpoint.objects.filter(patient__cohort=reference).delete()
    assert train("no outcome").error_code == "NO_REFERENCE"


# --- HEX measured again, fine-tuned, and as released


@pytest.fixture
def do(reference, run_jobs):
    def go(kind, **params):
        job = enqueue(None, kind, {"cohorts": [reference.pk], **params}, cohorts=[reference])
        run_jobs()
        job.refresh_from_db()
        return job

    return go


def test_a_version_is_measured_only_on_patients_whom_it_never_saw(reference, do):
    version = ModelVersion.objects.get(family="hex")
    job = do("predictions.evaluate_hex", version=version.pk, name="all seen")
    assert (job.state, job.error_code) == ("failed", "ALL_SEEN") and "fitted on 6 of the 6" in job.error_sentence
    Member.objects.filter(version=version).delete()
    job = do("predictions.evaluate_hex", version=version.pk, name="six, outside")
    assert (job.state, job.error_sentence, job.traceback) == ("succeeded", "", "")
    measured = ModelVersion.objects.get(name="six, outside")
    assert measured.cohorts.get() == reference and measured.sha256 == version.sha256 and not measured.is_current
    told = card(measured)["Pan-Cytokeratin"]
    assert told["external_n"] == told["n"] == 6 and told["r2"] > 0.1 and not told["locked"]
    assert [row["name"] for row in measured.metrics["comparison"]] == ["HEX", "slide mean", "nuclear density"]
    assert measured.metrics["conformal"]["patients"] == 6


def test_fine_tuning_never_starts_from_weights_that_saw_the_held_out(do):
    version = ModelVersion.objects.get(family="hex")
    few = {"epochs": 1, "lr": 1e-4, "markers": ["CD20", "Pan-Cytokeratin"]}
    job = do("predictions.fit_hex", name="tuned", start=version.pk, config=few)
    assert (job.state, job.error_sentence, job.traceback) == ("succeeded", "", "")
    tuned = ModelVersion.objects.get(name="tuned")
    assert tuned.parents.get() == version and tuned.panel == ["CD20", "Pan-Cytokeratin"]
    assert tuned.metrics["median_r_within"] > 0.3, "it knows from the start what one epoch could not teach"
    assert Member.objects.filter(version=tuned, fold=0).count() == Member.objects.filter(version=version, fold=0).count() == 3
    assert set(job.curves.values_list("series", flat=True)) >= {"fold 1 training", "fold 2 held-out"}
    job = do("predictions.fit_hex", name="tuned on others", start=version.pk, config={**few, "seed": 5, "folds": 3})
    assert (job.state, job.error_code) == ("failed", "START_SAW_PATIENTS")


def test_a_frozen_encoder_stands_beside_ridge_on_the_same_features(do):
    job = do("predictions.fit_hex", name="frozen", config={"encoder": "he-descriptors", "trained_layers": 0, "epochs": 20})
    assert (job.state, job.error_sentence, job.traceback) == ("succeeded", "", "")
    rows = {row["name"]: row for row in ModelVersion.objects.get(name="frozen").metrics["comparison"]}
    assert rows["HEX"]["r"] > 0.2 and rows["ridge on the same features"]["r"] > 0.2
    assert {"r_pooled", "mse"} <= rows["HEX"].keys()
    job = do("predictions.fit_hex", name="gated", config={"encoder": "musk", "trained_layers": 0})
    assert (job.state, job.error_code) == ("failed", "ENCODER_MISSING") and "Encoders" in job.error_hint


def test_a_head_on_a_registered_encoder_asks_for_that_very_encoder(reference, do, tmp_path, run_jobs):
    import torch

    from ml.encoders.catalogue import architecture
    from tissueboard.model_registry.encoders import register_encoder

    name = "timm:test_vit.r160_in1k"
    torch.manual_seed(0)
    torch.save(architecture(name).state_dict(), tmp_path / "vit.pth")
    encoder = register_encoder(None, name, tmp_path / "vit.pth")
    job = do("predictions.fit_hex", name="on a vit", config={"encoder": name, "trained_layers": 0, "epochs": 3})
    assert (job.state, job.error_sentence, job.traceback) == ("succeeded", "", "")
    version = ModelVersion.objects.get(name="on a vit")
    assert version.provenance["encoder"]["weights_sha256"] == encoder.sha256
    params = {"slide": Slide.objects.first().pk, "version": version.pk}
    made = enqueue(None, "predictions.virtual_map", params, cohorts=[reference])
    run_jobs()
    made.refresh_from_db()
    assert made.state == "succeeded" and Prediction.objects.get(kind="feature bag", version=version).facts["dim"] == 64
    ModelVersion.objects.filter(pk=encoder.pk).update(sha256="0" * 64)
    again = enqueue(None, "predictions.virtual_map", params, cohorts=[reference], key="again")
    run_jobs()
    again.refresh_from_db()
    assert (again.state, again.error_code) == ("failed", "ENCODER_MISSING") and "not in use" in again.error_sentence


def test_a_released_checkpoint_makes_maps_and_shows_none_before_it_was_measured(reference, do, tmp_path, run_jobs):
    import torch
    from django.core.management import call_command

    from ml.hex.checkpoint import load
    from ml.hex.released_weights import export_released
    from tissueboard.model_registry.services import weights_path
    from tissueboard.predictions.hex_release import register_released

    own = load(weights_path(ModelVersion.objects.get(family="hex")))
    torch.save(export_released(own.folds[0].model), tmp_path / "checkpoint.pth")
    given = {"encoder": "compact-resnet-48", "markers": own.markers, "licence": "made by a test"}
    call_command("add_hex", "theirs", tmp_path / "checkpoint.pth", encoder="compact-resnet-48", markers=",".join(own.markers))
    version = ModelVersion.objects.get(name="theirs")
    assert version.label == "released" and version.pretraining_overlap == "unknown" and not version.is_current
    slide = Slide.objects.first()
    enqueue(None, "predictions.virtual_map", {"slide": slide.pk, "version": version.pk}, cohorts=[reference])
    run_jobs()
    made = Prediction.objects.get(kind="virtual map", version=version)
    assert made.facts["out_of_range_share"] is None and load_map(made).out_of_range is None and card(version) == {}
    job = do("predictions.evaluate_hex", version=version.pk, name="theirs, measured")
    measured = ModelVersion.objects.get(name="theirs, measured")
    assert job.state == "succeeded" and measured.is_current and not card(measured)["Pan-Cytokeratin"]["locked"]
    with pytest.raises(TissueboardError) as caught:
        register_released(None, "another panel", tmp_path / "checkpoint.pth", **{**given, "markers": ("A",)})
    assert caught.value.code == "PANEL_DIFFERS" and not ModelVersion.objects.filter(name="another panel").exists()
