"""The pipeline "features" on real files with the fixed H&E descriptors: plan with an estimate, run, and regions that change."""

import pytest
from people import people  # noqa: F401

from tissueboard.jobs.models import Job
from tissueboard.model_registry.encoders import ensure_builtin_encoders
from tissueboard.pipelines.cohort_plan import plan_cohort
from tissueboard.pipelines.feeding import feed
from tissueboard.pipelines.run_services import extend, start_run
from tissueboard.predictions.feature_jobs import estimate_features, estimate_many
from tissueboard.predictions.models import Prediction
from tissueboard.slides.models import Slide
from tissueboard.slides.regions import draw_region
from tissueboard.slides.tiling import input_key

pytestmark = pytest.mark.django_db
PIPELINE = "features"


@pytest.fixture
def version():
    return ensure_builtin_encoders()[0]


@pytest.fixture
def lung(people):  # noqa: F811
    """Two ready slides and one that needs attention."""
    return people.lung


def square(slide, share):
    """GeoJSON of a square around the middle of the slide, share of its side."""
    low, high = slide.width * (1 - share) / 2, slide.width * (1 + share) / 2
    return {"type": "Polygon", "coordinates": [[[low, low], [high, low], [high, high], [low, high], [low, low]]]}


def test_features_of_a_cohort_are_estimated_made_and_found_again(people, lung, version, run_jobs):  # noqa: F811
    options = {"encoder": version.pk}
    plan = plan_cohort(people.viewer, lung.cohort, PIPELINE, options)
    assert (plan.n_run, plan.n_exists, plan.n_skip) == (2, 0, 1)
    expected = [estimate_features(slide, version) for slide in lung.slides[:2]]
    assert plan.estimate.disk_bytes == sum(one.bytes for one in expected) and plan.estimate.seconds is None
    run = start_run(people.contributor, lung.cohort, PIPELINE, options)
    run_jobs()
    feed(run.pk)
    run.refresh_from_db()
    assert run.state == "done" and [item.state for item in run.items.with_state()] == ["succeeded", "succeeded", "skipped"]
    plan = plan_cohort(people.viewer, lung.cohort, PIPELINE, options)
    assert (plan.n_run, plan.n_exists, plan.n_skip) == (0, 2, 1)
    bags = Prediction.objects.filter(kind="feature bag", version=version, slide__in=lung.slides)
    assert bags.count() == 2 and all(bag.facts["n_tiles"] for bag in bags)


def test_a_region_that_is_drawn_makes_the_slide_run_again(people, lung, version, run_jobs):  # noqa: F811
    options, slide = {"encoder": version.pk}, lung.slides[0]
    run = start_run(people.contributor, lung.cohort, PIPELINE, options)
    run_jobs()
    before = Prediction.objects.get(kind="feature bag", version=version, slide=slide)
    draw_region(people.contributor, slide, geometry=square(slide, 0.5), role="analyse")
    plan = plan_cohort(people.viewer, lung.cohort, PIPELINE, options)
    assert [row.slide for row in plan.rows if row.plan == "run"] == [slide] and plan.n_exists == 1
    assert extend(people.contributor, run).added == 1
    run_jobs()
    after = Prediction.objects.get(kind="feature bag", version=version, slide=slide)
    assert 0 < after.facts["n_tiles"] < before.facts["n_tiles"] and after.inputs["regions"]
    assert plan_cohort(people.viewer, lung.cohort, PIPELINE, options).n_exists == 2


@pytest.mark.parametrize("named", [True, False], ids=["names its input", "names its pixels only"])
def test_an_imported_bag_exists_until_a_region_restricts_the_slide(people, lung, version, named):  # noqa: F811
    slide = lung.slides[0]
    if named:
        draw_region(people.contributor, slide, geometry=square(slide, 0.9), role="analyse")
    job = Job.objects.get(pk=lung.jobs["done"].pk)
    inputs = {"working slide": slide.working_sha256} | ({"input key": input_key(slide)} if named else {})
    Prediction.objects.create(
        kind="feature bag", patient=lung.patient, slide=slide, version=version, job=job, inputs=inputs, code_version="test"
    )
    options = {"encoder": version.pk}
    assert plan_cohort(people.viewer, lung.cohort, PIPELINE, options).n_exists == 1
    draw_region(people.contributor, slide, geometry=square(slide, 0.5), role="analyse")
    assert plan_cohort(people.viewer, lung.cohort, PIPELINE, options).n_exists == 0


def test_many_slides_are_estimated_with_as_many_queries_as_one(lung, version, django_assert_num_queries):
    slides = list(Slide.objects.filter(pk__in=[slide.pk for slide in lung.slides[:2]]))
    with django_assert_num_queries(2):
        one = estimate_many(slides[:1], version)
    with django_assert_num_queries(2):
        both = estimate_many(slides, version)
    assert both[slides[0].pk] == one[slides[0].pk] == estimate_features(slides[0], version)


def test_a_run_whose_starter_died_is_brought_to_its_end_by_the_message_of_the_beat(transactional_db, start_worker, monkeypatch):
    """The message goes through Redis to a worker of its own, which feeds and works; this process only sends it."""
    from django.conf import settings
    from live_worker import wait_for
    from people import build

    from tissueboard.celery import app
    from tissueboard.pipelines import run_services
    from tissueboard.pipelines.models import CohortRun

    world, version = build(), ensure_builtin_encoders()[0]
    monkeypatch.setattr(run_services, "feed", lambda run: 0)
    run = start_run(world.contributor, world.lung.cohort, PIPELINE, {"encoder": version.pk})
    assert not run.items.filter(job__isnull=False).exists()
    worker = start_worker()
    planned = settings.CELERY_BEAT_SCHEDULE["feed runs"]

    def done():
        app.send_task(planned["task"], **planned["options"])
        return CohortRun.objects.get(pk=run.pk).state == "done"

    wait_for(done, 60, lambda: worker.log.read_text()[-3000:], worker.process)
    assert [item.state for item in run.items.with_state()] == ["succeeded", "succeeded", "skipped"]
