"""A pipeline applied to a whole cohort: the run, and one row for each step on each slide or patient."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Case, Q, Value, When

from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.cohorts.models import Cohort, Patient
from tissueboard.jobs.models import ACTIVE, WAITING, Job, State
from tissueboard.model_registry.models import ModelVersion
from tissueboard.slides.models import Slide

from .declared import step_title

RUN_STATES = ("running", "paused", "done", "cancelled")
PLANS = ("run", "exists", "skip")
OPEN = ("running", "paused")
PER = ("slide", "image", "patient")


class CohortRun(models.Model):
    """One pipeline over one cohort. Jobs are asked for in the name of `run_as`, who started or last resumed it (None: the house)."""

    cohort_path = "cohort"

    class State(models.TextChoices):
        """done: nothing is left to wait for, also when some of it failed."""

        RUNNING = "running"
        PAUSED = "paused"
        DONE = "done"
        CANCELLED = "cancelled"

    cohort = models.ForeignKey(Cohort, models.CASCADE, related_name="runs")
    pipeline = models.CharField(max_length=40)
    # {family: version id} of every step, as it was when the run was started; a newer current version changes nothing.
    versions = models.JSONField(default=dict)
    # SHA-256 of pipeline and versions: of these there is at most one open run in a cohort.
    fingerprint = models.CharField(max_length=64)
    state = models.CharField(max_length=10, choices=State.choices, default=State.RUNNING)
    note = models.CharField(max_length=300, blank=True, help_text="Why it paused by itself.")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    run_as = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    by_house = models.BooleanField(default=False, help_text="Asked for by a command of the people who run the server.")
    created_at = models.DateTimeField(auto_now_add=True)
    # When jobs were last allowed to go on; the rate is counted from here.
    resumed_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(name="run_state_known", condition=Q(state__in=RUN_STATES)),
            models.CheckConstraint(name="run_end_has_time", condition=Q(state__in=OPEN) | Q(finished_at__isnull=False)),
            models.CheckConstraint(name="run_pipeline_not_blank", condition=~Q(pipeline="")),
            models.UniqueConstraint(fields=["cohort", "fingerprint"], name="one_open_run", condition=Q(state__in=OPEN)),
        ]
        indexes = [models.Index(fields=["cohort", "-id"]), models.Index(fields=["state"])]

    def __str__(self) -> str:
        return f"run {self.pk} of {self.pipeline} ({self.state})"


class RunItemQuerySet(ScopedQuerySet):
    def with_state(self) -> RunItemQuerySet:
        """Adds `state`: exists, waiting, running, succeeded, failed or skipped. The job is asked, so that the two never differ."""
        return self.annotate(
            state=Case(
                When(plan="exists", then=Value("exists")),
                When(plan="skip", then=Value("skipped")),
                When(Q(due=True) | Q(job__state__in=WAITING), then=Value("waiting")),
                When(job__state__in=ACTIVE, then=Value("running")),
                When(job__state=State.SUCCEEDED, then=Value("succeeded")),
                default=Value("failed"),
                output_field=models.CharField(),
            )
        )


class RunItem(models.Model):
    """One step on one slide, one multiplex image, or one patient and her index slide. `due`: its job is still to be asked for (again)."""

    cohort_path = "run__cohort"
    STATES = ("waiting", "running", "succeeded", "exists", "failed", "skipped")

    run = models.ForeignKey(CohortRun, models.CASCADE, related_name="items")
    kind = models.CharField(max_length=80, help_text="The step: a job kind.")
    per = models.CharField(max_length=8, choices=[(what, what) for what in PER])
    patient = models.ForeignKey(Patient, models.CASCADE, related_name="+")
    # None where a patient has no slide, and of an image.
    slide = models.ForeignKey(Slide, models.CASCADE, null=True, blank=True, related_name="+")
    image = models.ForeignKey(MultiplexImage, models.CASCADE, null=True, blank=True, related_name="+")
    version = models.ForeignKey(ModelVersion, models.PROTECT, null=True, blank=True, related_name="+")
    plan = models.CharField(max_length=6, choices=[(p, p) for p in PLANS])
    code = models.CharField(max_length=40, blank=True, help_text="Why it cannot run.")
    reason = models.TextField(blank=True)
    due = models.BooleanField(default=False)
    job = models.ForeignKey(Job, models.PROTECT, null=True, blank=True, related_name="run_items")
    # Somebody asked for the same job outside of any run: it is never taken back.
    shared = models.BooleanField(default=False)
    # slides.tiling.input_key of what the job was asked for.
    input_key = models.CharField(max_length=255, blank=True)

    objects = RunItemQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(name="run_item_plan_known", condition=Q(plan__in=PLANS)),
            models.CheckConstraint(name="run_item_per_known", condition=Q(per__in=PER)),
            models.CheckConstraint(name="run_item_skip_has_reason", condition=~Q(plan="skip") | (~Q(reason="") & ~Q(code=""))),
            models.CheckConstraint(name="run_item_due_is_to_run", condition=Q(due=False) | Q(plan="run")),
            models.CheckConstraint(name="run_item_is_due_or_has_a_job", condition=~Q(plan="run") | Q(due=True) | Q(job__isnull=False)),
            models.CheckConstraint(
                name="run_item_to_run_is_whole",
                condition=~Q(plan="run") | (Q(version__isnull=False) & (Q(slide__isnull=False) | Q(image__isnull=False))),
            ),
            models.CheckConstraint(
                name="run_item_of_one_tissue",
                condition=Q(per="patient", image__isnull=True)
                | Q(per="slide", slide__isnull=False, image__isnull=True)
                | Q(per="image", slide__isnull=True, image__isnull=False),
            ),
            models.UniqueConstraint(fields=["run", "kind", "slide"], name="one_item_per_slide", condition=Q(per="slide")),
            models.UniqueConstraint(fields=["run", "kind", "image"], name="one_item_per_image", condition=Q(per="image")),
            models.UniqueConstraint(fields=["run", "kind", "patient"], name="one_item_per_patient", condition=Q(per="patient")),
        ]
        indexes = [
            models.Index(fields=["run", "kind", "id"], name="run_item_due", condition=Q(due=True)),
            models.Index(fields=["run", "slide"]),
            models.Index(fields=["run", "image"]),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of run {self.run_id}"

    @property
    def tissue(self) -> Any:
        """The slide or image; None of a patient without a slide."""
        return self.slide if self.slide_id is not None else self.image

    @property
    def tissue_id(self) -> int | None:
        """Its id."""
        return self.slide_id if self.slide_id is not None else self.image_id

    @property
    def title(self) -> str:
        """The step in words."""
        return step_title(self.kind)
