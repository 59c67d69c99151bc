"""What neighbours' outcomes may claim: measured by a job, frozen, and told; a curve only where the rules allow it."""

import numpy as np
import pytest
from many_tissues import embed, niche_version, slide_of

from tissueboard.cohorts.models import Endpoint, Event
from tissueboard.errors import NotVisible, RoleMissing, TissueboardError
from tissueboard.jobs.models import Job
from tissueboard.predictions.models import Prediction
from tissueboard.retrieval import outcome_value
from tissueboard.retrieval.models import OutcomeValue
from tissueboard.retrieval.outcome_value import neighbour_outcome, request_outcome_value
from tissueboard.retrieval.references import choose


def cohort_of(people, n, tells):
    """n patients along a line; death comes the sooner, by `tells`, the farther along. Gives (version, slides)."""
    Prediction.objects.filter(version=people.versions["niche"]).delete()
    version, rng = niche_version(people, "v"), np.random.default_rng(3)
    slides = []
    for i in range(n):
        clinical = {"age": float(50 + rng.integers(0, 30)), "stage": ("I", "II", "III")[rng.integers(0, 3)]}
        slide = slide_of(people.lung.cohort, f"C-{i:03}", clinical=clinical)
        embed(people, slide, version, float(i), seed=i)
        time = rng.exponential(900 * np.exp(-tells * (i - n / 2) / n))
        Endpoint.objects.create(patient=slide.sample.patient, name="OS", time_days=round(time, 1), event=True, source="test")
        Event.objects.create(patient=slide.sample.patient, kind="treatment", name="carboplatin", source="test")
        slides.append(slide)
    return version, slides


def told(people, slide):
    return neighbour_outcome(people.viewer, slide, choose(people.viewer, slide)[0])


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch):
    """The interval takes 500 draws; 60 are enough to see on which side of zero it lies."""
    import ml.survival.neighbour_value as pure

    full = pure.neighbour_value
    monkeypatch.setattr(pure, "neighbour_value", lambda *a, **b: full(*a, **b, draws=60))


def test_the_curve_of_neighbours_stands_beside_the_matched_one_where_it_says_more(people, run_jobs):
    version, slides = cohort_of(people, 70, tells=7.0)
    before = told(people, slides[60])
    assert before.curves is None and before.note.startswith("No outcome value shown in this cohort: it was not measured")
    job = request_outcome_value(people.contributor, people.lung.cohort, version.pk, False, "OS")
    run_jobs()
    value = OutcomeValue.objects.get()
    assert value.job_id == job.pk and value.shown and value.facts["gain_lower"] > 0 and value.facts["k"] == 30 and value.facts["n"] == 70
    found = told(people, slides[60])
    near, matched = found.curves.groups
    assert (near.n, near.name) == (30, "nearest") and matched.n > 5 and found.curves.logrank is None
    stage = slides[60].sample.patient.clinical["stage"]
    assert matched.n == sum(s.sample.patient.clinical["stage"] == stage for s in slides) - 1
    assert "says nothing about which treatment helps" in found.note
    Endpoint.objects.filter(patient__cohort=people.lung.cohort).update(event=False)
    assert "0 events" in told(people, slides[60]).note
    Endpoint.objects.filter(patient__in=[s.sample.patient for s in slides[:45]]).delete()
    assert "fewer than 30 patients" in told(people, slides[60]).note


def test_where_nothing_is_gained_the_page_says_so_with_the_figures(people, run_jobs):
    version, slides = cohort_of(people, 40, tells=0.0)
    request_outcome_value(people.contributor, people.lung.cohort, version.pk, False, "OS")
    run_jobs()
    value = OutcomeValue.objects.get()
    assert not value.shown and "gains nothing sure over age and stage" in value.facts["why"]
    found = told(people, slides[0])
    assert found.curves is None and "in C, 95%" in found.note and "single histories" in found.note


def test_too_few_patients_is_a_frozen_answer_too(people, run_jobs):
    version, slides = cohort_of(people, 12, tells=0.0)
    request_outcome_value(people.contributor, people.lung.cohort, version.pk, False, "OS")
    run_jobs()
    assert "it takes 32 patients" in told(people, slides[0]).note


def test_asking_twice_without_news_is_one_job_and_new_outcomes_are_another(people):
    version, slides = cohort_of(people, 4, tells=0.0)
    ask = (people.contributor, people.lung.cohort, version.pk, False, "OS")
    assert request_outcome_value(*ask) == request_outcome_value(*ask)
    Endpoint.objects.filter(patient=slides[0].sample.patient).update(time_days=5.0)
    request_outcome_value(*ask)
    assert Job.objects.filter(kind=outcome_value.KIND).count() == 2


def test_who_may_ask_and_for_what(people):
    version, _ = cohort_of(people, 2, tells=0.0)
    for user, error in ((people.viewer, RoleMissing), (people.stranger, TissueboardError)):
        with pytest.raises(error):
            request_outcome_value(user, people.lung.cohort, version.pk, False, "OS")
    for version_id, measured, endpoint in ((version.pk, True, "OS"), (10**9, False, "OS"), (version.pk, False, "nothing")):
        with pytest.raises(TissueboardError):
            request_outcome_value(people.contributor, people.lung.cohort, version_id, measured, endpoint)
    assert NotVisible.status == 404


def test_a_viewer_of_another_cohort_reads_no_measurement(people, run_jobs):
    version, _ = cohort_of(people, 4, tells=0.0)
    request_outcome_value(people.contributor, people.lung.cohort, version.pk, False, "OS")
    run_jobs()
    assert OutcomeValue.objects.visible_to(people.viewer).count() == 1 and not OutcomeValue.objects.visible_to(people.stranger).exists()
