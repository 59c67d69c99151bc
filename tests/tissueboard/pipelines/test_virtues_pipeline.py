"""The pipeline of multiplex images: planned, run over a cohort, started on one image; slides and images are never taken for each other."""

import pytest
import tiny_virtues as tiny
from reference_six import run_everything

from tissueboard.assays.models import MultiplexImage
from tissueboard.assays.proteins import set_protein
from tissueboard.errors import TissueboardError
from tissueboard.pipelines.cohort_plan import plan_cohort
from tissueboard.pipelines.feeding import feed
from tissueboard.pipelines.models import RunItem
from tissueboard.pipelines.run_services import extend, start_run
from tissueboard.pipelines.selectors import items_for
from tissueboard.pipelines.services import run_pipeline
from tissueboard.predictions.models import Prediction


@pytest.fixture
def lung(people, settings):
    settings.JOBS_HEARTBEAT_SECONDS = 3600
    people.images = [tiny.image_of(patient, seed) for seed, patient in enumerate(people.lung.patients[:2])]
    waiting = tiny.image_of(people.lung.patients[2], 2)
    MultiplexImage.objects.filter(pk=waiting.pk).update(state="needs attention")
    waiting.refresh_from_db()
    people.waiting = waiting
    return people


def test_a_cohorts_images_are_planned_run_and_then_exist(lung, django_capture_on_commit_callbacks):
    cohort = lung.lung.cohort
    plan = plan_cohort(lung.contributor, cohort, "virtues")
    assert (plan.what, plan.n_slides, plan.n_run, plan.n_skip) == ("image", 3, 0, 6)
    assert {row.code for row in plan.rows} == {"NO_VERSION", "NEEDS_MISSING"}
    version = tiny.adopted(cohort)
    plan = plan_cohort(lung.contributor, cohort, "virtues")
    assert (plan.n_run, plan.n_skip, plan.versions) == (4, 2, {"virtues": version.pk})
    assert {(row.image, row.code) for row in plan.skipped()} == {(lung.waiting, "IMAGE_NOT_READY")}
    run = start_run(lung.contributor, cohort, "virtues")
    while run_everything():
        feed(run.pk)
    run.refresh_from_db()
    assert run.state == "done", list(items_for(lung.viewer, run).values("kind", "state", "job__error_sentence"))
    states = RunItem.objects.filter(run=run).with_state().values_list("image", "kind", "state")
    assert {state for image, _, state in states if image != lung.waiting.pk} == {"succeeded"} and len(states) == 6
    assert Prediction.objects.filter(image__in=lung.images, kind="niche set", version=version).count() == 2
    again = plan_cohort(lung.contributor, cohort, "virtues")
    assert (again.n_run, again.n_exists, again.n_skip) == (0, 4, 2)

    set_protein(lung.contributor, cohort, "CD8a", "none")
    changed = plan_cohort(lung.contributor, cohort, "virtues")
    assert (changed.n_run, changed.n_exists) == (4, 0)
    MultiplexImage.objects.filter(pk=lung.waiting.pk).update(state="ready")
    assert extend(lung.contributor, run).added == 6
    while run_everything():
        feed(run.pk)
    assert plan_cohort(lung.contributor, cohort, "virtues").n_exists == 6


def test_one_image_is_started_like_a_slide(lung):
    tiny.adopted(lung.lung.cohort)
    jobs = run_pipeline(lung.contributor, "virtues", slides=[lung.images[0]])
    assert [job.kind for job in jobs] == ["predictions.virtues", "retrieval.image_niches"]
    assert run_pipeline(lung.contributor, "virtues", slides=[lung.images[0]]) == jobs
    with pytest.raises(TissueboardError) as told:
        run_pipeline(lung.contributor, "virtues", slides=[lung.waiting])
    assert told.value.code == "IMAGE_NOT_READY"


@pytest.mark.parametrize(("pipeline", "of"), [("virtues", "slides"), ("case", "multiplex images")])
def test_a_pipeline_of_the_other_kind_of_tissue_is_refused(lung, pipeline, of):
    tissue = lung.lung.slide if pipeline == "virtues" else lung.images[0]
    with pytest.raises(TissueboardError) as told:
        run_pipeline(lung.contributor, pipeline, slides=[tissue])
    assert told.value.code == "OTHER_TISSUE" and told.value.sentence.endswith(".") and of not in told.value.sentence


def test_the_plan_asks_the_database_equally_often_for_any_number_of_images(lung, django_assert_num_queries):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    tiny.adopted(lung.lung.cohort)
    with CaptureQueriesContext(connection) as few:
        plan_cohort(lung.contributor, lung.lung.cohort, "virtues")
    for patient in lung.lung.patients[3:]:
        tiny.image_of(patient, 0)
    with django_assert_num_queries(len(few)):
        plan_cohort(lung.contributor, lung.lung.cohort, "virtues")
