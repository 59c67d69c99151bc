"""manage.py run_pipeline: plans, runs over cohorts, single slides."""

from io import StringIO

import pytest
from cohort_of_slides import PIPELINE, lung, more_slides, steps  # noqa: F401
from django.core.management import CommandError, call_command

from tissueboard.jobs.models import Job
from tissueboard.pipelines.management.commands import run_pipeline as command
from tissueboard.pipelines.models import CohortRun
from tissueboard.slides.models import Slide


def run(*arguments):
    out = StringIO()
    call_command("run_pipeline", *arguments, stdout=out)
    return out.getvalue()


def test_a_dry_run_tells_the_plan_and_starts_nothing(lung):  # noqa: F811
    more_slides(lung.cohort, 1, state="needs attention")
    told = run(PIPELINE, "--cohort", "lung", "--dry-run")
    assert "Bag (hex small hex): 3 will run, 0 exist, 1 cannot run" in told
    assert "P-00003 P-00003-S: Bag: The slide P-00003-S is not ready: needs attention." in told
    assert "Time: unknown, " in told and "GiB free" in told
    assert not CohortRun.objects.exists() and not Job.objects.exists()


def test_a_run_is_the_houses_and_can_be_followed_to_its_end(lung, run_jobs, monkeypatch):  # noqa: F811
    monkeypatch.setattr(command.time, "sleep", lambda seconds: run_jobs())
    told = run(PIPELINE, "--cohort", "lung", "--wait")
    found = CohortRun.objects.get()
    assert f"Run {found.pk} is running." in told and told.strip().endswith("9 succeeded")
    assert found.by_house and found.created_by is None and found.state == "done"
    with pytest.raises(CommandError, match="NOTHING_TO_RUN"):
        run(PIPELINE, "--cohort", "lung")


def test_following_a_run_fails_where_a_step_failed(lung, run_jobs, monkeypatch):  # noqa: F811
    Slide.objects.filter(pk=lung.slides[0].pk).update(facts={"refuse": True})
    monkeypatch.setattr(command.time, "sleep", lambda seconds: run_jobs())
    with pytest.raises(CommandError, match="3 steps failed"):
        run(PIPELINE, "--cohort", "lung", "--wait")


def test_single_slides_need_no_run(lung):  # noqa: F811
    told = run("bags", "--cohort", "lung", "--slide", str(lung.slides[0].pk), "--choose", f"hex={lung.versions['hex'].pk}")
    assert "P-00000-S: Bag: hex small hex" in told and "1 jobs: " in told and not CohortRun.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nothing", "--cohort", "lung"), "UNKNOWN_PIPELINE"),
        ((PIPELINE, "--cohort", "elsewhere"), "no cohort elsewhere"),
        (("bags", "--cohort", "lung"), "VERSION_NOT_CHOSEN"),
        (("bags", "--cohort", "lung", "--choose", "hex"), "FAMILY=ID"),
        (("bags", "--cohort", "lung", "--choose", "hex=999"), "VERSION_UNKNOWN"),
        ((PIPELINE, "--cohort", "lung", "--slide", "999"), "no such ready slide"),
    ],
)
def test_what_is_wrong_is_named(lung, arguments, told):  # noqa: F811
    with pytest.raises(CommandError, match=told):
        run(*arguments)
