"""What a pipeline would do to a cohort: what runs, what is there, what cannot run and why, for how long and how much."""

import pytest
from cohort_of_slides import PIPELINE, lung, more_slides, steps  # noqa: F401
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tissueboard.cohorts.models import Cohort, Patient, Sample
from tissueboard.errors import NotVisible, TissueboardError
from tissueboard.jobs.models import Job
from tissueboard.jobs.presence import PREFIX, redis_client
from tissueboard.model_registry.models import ModelVersion
from tissueboard.pipelines.cohort_plan import plan_cohort
from tissueboard.pipelines.errors import UnknownPipeline
from tissueboard.pipelines.estimates import Cost, estimate
from tissueboard.pipelines.run_services import start_run
from tissueboard.pipelines.services import run_pipeline
from tissueboard.predictions.models import Prediction
from tissueboard.slides.models import Slide


def counts(plan):
    return plan.n_run, plan.n_exists, plan.n_skip


def finish(lung, run_jobs):  # noqa: F811
    """Brings a run to its end: feeds and works in turns."""
    from tissueboard.pipelines.feeding import feed

    run = start_run(lung.contributor, lung.cohort, PIPELINE)
    while run_jobs() or feed(run.pk):
        feed(run.pk)
    run.refresh_from_db()
    return run


def test_everything_runs_on_a_cohort_that_nothing_was_done_to(lung):  # noqa: F811
    plan = plan_cohort(lung.viewer, lung.cohort, PIPELINE)
    assert counts(plan) == (9, 0, 0) and (plan.n_slides, plan.n_patients) == (3, 3)
    assert plan.versions == {family: version.pk for family, version in lung.versions.items()}
    order = [(row.patient.code, row.step.kind) for row in plan.rows]
    chain = ["tests.bag", "tests.niches", "tests.risk"]
    assert order == [(slide.sample.patient.code, kind) for slide in lung.slides for kind in chain]


def test_what_was_made_from_the_same_input_exists_and_what_an_input_changed_under_runs_again(lung, run_jobs):  # noqa: F811
    finish(lung, run_jobs)
    assert counts(plan_cohort(lung.viewer, lung.cohort, PIPELINE)) == (0, 9, 0)
    first = lung.slides[0]
    Slide.objects.filter(pk=first.pk).update(working_sha256="f" * 64)
    plan = plan_cohort(lung.viewer, lung.cohort, PIPELINE)
    assert counts(plan) == (3, 6, 0), "the slide's own steps and what stands on them"
    assert {row.slide.pk for row in plan.rows if row.plan == "run"} == {first.pk}


def test_an_input_that_changes_back_is_not_taken_for_done(lung, run_jobs):  # noqa: F811
    """The first job succeeded with this very input, but the output that lies there was made from another one since."""
    finish(lung, run_jobs)
    first = lung.slides[0]
    before = first.working_sha256
    Slide.objects.filter(pk=first.pk).update(working_sha256="f" * 64)
    finish(lung, run_jobs)
    assert counts(plan_cohort(lung.viewer, lung.cohort, PIPELINE)) == (0, 9, 0)
    Slide.objects.filter(pk=first.pk).update(working_sha256=before)
    assert counts(plan_cohort(lung.viewer, lung.cohort, PIPELINE)) == (3, 6, 0)
    run = finish(lung, run_jobs)
    assert run.state == "done" and counts(plan_cohort(lung.viewer, lung.cohort, PIPELINE)) == (0, 9, 0)
    made = Prediction.objects.get(slide=first, kind="feature bag")
    assert made.inputs["working slide"] == before and Job.objects.filter(kind="tests.bag", params__slide=first.pk).count() == 3


def test_an_output_that_was_replaced_takes_what_stood_on_it_along(lung, run_jobs):  # noqa: F811
    finish(lung, run_jobs)
    Prediction.objects.filter(slide=lung.slides[1], kind="feature bag").update(sha256="new")
    plan = plan_cohort(lung.viewer, lung.cohort, PIPELINE)
    assert [(row.step.kind, row.slide.pk) for row in plan.rows if row.plan == "run"] == [
        ("tests.niches", lung.slides[1].pk),
        ("tests.risk", lung.slides[1].pk),
    ]


def test_another_version_makes_everything_run_again(lung, run_jobs):  # noqa: F811
    finish(lung, run_jobs)
    second = ModelVersion.objects.create(family="hex", name="second", **lung.common)
    plan = plan_cohort(lung.viewer, lung.cohort, "bags", {"hex": second.pk})
    assert counts(plan) == (3, 0, 0)
    assert counts(plan_cohort(lung.viewer, lung.cohort, "bags", {"hex": lung.versions["hex"].pk})) == (0, 3, 0)


def test_what_cannot_run_says_why(lung):  # noqa: F811
    patient = Patient.objects.create(cohort=lung.cohort, code="Z-nobody")
    more_slides(lung.cohort, 1, state="needs attention", working_key="")
    more_slides(lung.cohort, 1, stain="CD3")
    plan = plan_cohort(lung.viewer, lung.cohort, PIPELINE)
    told = {(row.patient.code, row.step.kind): (row.code, row.reason) for row in plan.skipped()}
    assert told["P-00004", "tests.bag"] == ("SLIDE_NOT_READY", "The slide P-00004-S is not ready: needs attention.")
    assert told["P-00004", "tests.risk"][0] == "SLIDE_NOT_READY"
    assert told["P-00005", "tests.bag"] == ("OTHER_STAIN", "Bag is made for H&E; the slide P-00005-S is CD3.")
    assert told["P-00005", "tests.niches"] == ("NEEDS_MISSING", f"Bag cannot run: {told['P-00005', 'tests.bag'][1]}")
    assert told[patient.code, "tests.risk"] == ("NO_SLIDE", "Z-nobody has no slide.")
    assert counts(plan) == (9, 0, len(told))


def test_a_missing_or_foreign_model_stands_in_the_way_of_its_step_only(lung):  # noqa: F811
    lung.versions["cox_summary"].cohorts.set([Cohort.objects.create(name="other")])
    plan = plan_cohort(lung.viewer, lung.cohort, PIPELINE)
    assert counts(plan) == (6, 0, 3)
    assert {row.code for row in plan.skipped()} == {"NO_VERSION"} and {row.step.kind for row in plan.skipped()} == {"tests.risk"}
    ModelVersion.objects.create(family="hex", name="newer", **lung.common)
    plan = plan_cohort(lung.viewer, lung.cohort, PIPELINE)
    told = {row.reason for row in plan.skipped() if row.code == "OTHER_PARENT"}
    assert told == {"The version niche small niche does not stand on hex newer; fit it again on the maps of hex newer."}


def test_a_risk_goes_with_the_index_slide_of_the_patient(lung, run_jobs):  # noqa: F811
    finish(lung, run_jobs)
    patient = lung.slides[0].sample.patient
    earlier = Sample.objects.create(patient=patient, code="earlier", day=-30.0)
    (slide,) = more_slides(lung.cohort, 1)
    Slide.objects.filter(pk=slide.pk).update(sample=earlier)
    slide.sample.patient.delete()
    plan = plan_cohort(lung.viewer, lung.cohort, PIPELINE)
    runs = {(row.step.kind, row.slide.pk) for row in plan.rows if row.plan == "run"}
    assert runs == {("tests.bag", slide.pk), ("tests.niches", slide.pk), ("tests.risk", slide.pk)}
    finish(lung, run_jobs)
    assert counts(plan_cohort(lung.viewer, lung.cohort, PIPELINE)) == (0, 11, 0)


def test_work_that_somebody_asked_for_already_is_told(lung):  # noqa: F811
    run_pipeline(lung.contributor, PIPELINE, slides=[lung.slides[0]])
    plan = plan_cohort(lung.viewer, lung.cohort, PIPELINE)
    assert counts(plan) == (9, 0, 0) and plan.n_under_way == 3


def test_a_plan_asks_the_database_as_often_for_thirty_slides_as_for_three(lung, run_jobs):  # noqa: F811
    finish(lung, run_jobs)
    asked = []
    for more in (3, 27):
        more_slides(lung.cohort, more)
        Slide.objects.filter(name__gte="P-00004").update(regions_revision=1)
        with CaptureQueriesContext(connection) as queries:
            plan = plan_cohort(lung.viewer, lung.cohort, PIPELINE)
        asked.append(len(queries))
        assert counts(plan) == (3 * (plan.n_slides - 3), 9, 0)
    assert plan.n_slides == 33 and asked[0] == asked[1] < 40, asked


def test_a_stranger_has_no_plan_and_a_wrong_choice_is_named(lung):  # noqa: F811
    with pytest.raises(NotVisible):
        plan_cohort(lung.outsider, lung.cohort, PIPELINE)
    with pytest.raises(UnknownPipeline):
        plan_cohort(lung.viewer, lung.cohort, "nothing")
    hidden = ModelVersion.objects.create(family="hex", name="hidden", **lung.common)
    hidden.cohorts.set([Cohort.objects.create(name="other")])
    for options, code in (
        ({"encoder": 1}, "OPTION_UNKNOWN"),
        ({"hex": hidden.pk}, "VERSION_UNKNOWN"),
        ({"hex": lung.versions["niche"].pk}, "VERSION_UNKNOWN"),
    ):
        with pytest.raises(TissueboardError) as refused:
            plan_cohort(lung.viewer, lung.cohort, PIPELINE, options)
        assert refused.value.code == code
    assert {row.code for row in plan_cohort(lung.viewer, lung.cohort, "bags").rows} == {"VERSION_NOT_CHOSEN"}


# --- estimates


def crew(name, queues, processes):
    with redis_client() as client:
        for queue in queues:
            client.set(f"{PREFIX}:{queue}:{name}", processes, ex=20)


def test_time_is_divided_by_the_processes_and_queues_of_one_worker_share_them(db, clean_redis):
    costs = {"tests.bag": Cost(30.0, 1000.0), "tests.risk": Cost(10.0, 0.0)}
    crew("a", ["cpu"], 2)
    crew("b", ["io"], 1)
    apart = estimate({"tests.bag": 10, "tests.risk": 6}, costs)
    assert (apart.seconds, apart.disk_bytes, apart.processes, apart.fits) == (150.0, 10_000, 3, True)
    crew("b", ["cpu"], 1)
    assert estimate({"tests.bag": 10, "tests.risk": 6}, costs).seconds == pytest.approx(360 / 3)


def test_what_was_never_measured_is_unknown_and_a_reason_is_given(db, clean_redis):
    nobody = estimate({"tests.bag": 2}, {"tests.bag": Cost(1.0, 1.0)})
    assert nobody.seconds is None and nobody.why_no_time == "no worker serves the queue cpu"
    crew("a", ["cpu"], 1)
    never = estimate({"tests.bag": 2})
    assert (never.seconds, never.disk_bytes, never.fits) == (None, None, True)
    assert never.why_no_time == never.why_no_disk == "no job “Feature bag for tests” has succeeded here yet"
    assert estimate({"tests.bag": 0}).seconds == 0
    assert not estimate({"tests.bag": 2}, {"tests.bag": Cost(1.0, 1e18)}).fits


def test_last_jobs_are_the_measure(lung, run_jobs, clean_redis):  # noqa: F811
    finish(lung, run_jobs)
    crew("a", ["cpu", "io", "gpu"], 1)
    more_slides(lung.cohort, 5)
    plan = plan_cohort(lung.viewer, lung.cohort, PIPELINE)
    assert plan.n_run == 15 and plan.estimate.seconds > 0 and plan.estimate.disk_bytes == 0 and plan.estimate.free_bytes > 0
