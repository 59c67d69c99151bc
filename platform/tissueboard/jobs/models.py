"""Job, its history, its outputs, and what it waits for. Only `state.advance` writes `Job.state`."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from tissueboard.cohorts.access import Role, SpanningQuerySet
from tissueboard.cohorts.models import Cohort


class State(models.TextChoices):
    """created waits for its needs; queued waits for a worker; saving makes the outputs visible."""

    CREATED = "created"
    QUEUED = "queued"
    RUNNING = "running"
    SAVING = "saving"
    SUCCEEDED = "succeeded"
    FAILED = "failed", "failed (the work said no)"
    CRASHED = "crashed", "crashed (the worker died)"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


WAITING = (State.CREATED, State.QUEUED)
ACTIVE = (State.RUNNING, State.SAVING)
# Ended without a result; asking again starts them again.
UNDONE = (State.FAILED, State.CRASHED, State.CANCELLED, State.EXPIRED)


class Queue(models.TextChoices):
    IO = "io"
    CPU = "cpu"
    GPU = "gpu"


class JobQuerySet(SpanningQuerySet):
    def visible_to(self, user: Any, role: str = Role.VIEWER) -> JobQuerySet:
        """Jobs whose cohorts the user may all see; jobs without cohorts for their creator and for staff."""
        if user is None or not user.is_authenticated or not user.is_active:
            return self.none()
        spanning = super().visible_to(user, role).values("pk")
        own = Q(cohorts__isnull=True) if user.is_staff else Q(cohorts__isnull=True, created_by=user)
        bare = Job.objects.filter(own).values("pk")
        return self.filter(Q(pk__in=spanning) | Q(pk__in=bare))


class Job(models.Model):
    """One piece of work. A second request with the same idempotency key finds the first."""

    kind = models.CharField(max_length=80)
    queue = models.CharField(max_length=4, choices=Queue.choices)
    params = models.JSONField(default=dict, blank=True)
    idempotency_key = models.CharField(max_length=64, unique=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.CREATED)
    # Counts starts of the work; a message of an older attempt finds nothing to do.
    attempt = models.PositiveIntegerField(default=1)
    # The attempt after which a dying worker is no longer replaced; a person's retry raises it.
    max_attempts = models.PositiveIntegerField(default=3)
    progress = models.FloatField(default=0.0)
    progress_text = models.CharField(max_length=200, blank=True)
    cancel_requested = models.BooleanField(default=False)
    error_code = models.CharField(max_length=60, blank=True)
    error_sentence = models.TextField(blank=True)
    error_hint = models.TextField(blank=True)
    # For staff only: may hold file names and values.
    traceback = models.TextField(blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="jobs")
    cohorts = models.ManyToManyField(Cohort, blank=True, related_name="jobs")
    needs = models.ManyToManyField("self", through="JobDependency", symmetrical=False, related_name="dependents")
    created_at = models.DateTimeField(auto_now_add=True)
    queued_at = models.DateTimeField(null=True, blank=True)
    # When a message was last put into Redis for this attempt.
    dispatched_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=120, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["state", "queue", "id"]), models.Index(fields=["kind", "state", "-finished_at"])]
        constraints = [
            models.CheckConstraint(name="job_state_known", condition=Q(state__in=State.values)),
            models.CheckConstraint(name="job_queue_known", condition=Q(queue__in=Queue.values)),
            models.CheckConstraint(name="job_progress_fraction", condition=Q(progress__gte=0) & Q(progress__lte=1)),
            models.CheckConstraint(name="job_attempts_positive", condition=Q(attempt__gte=1) & Q(max_attempts__gte=1)),
            models.CheckConstraint(name="job_kind_not_blank", condition=~Q(kind="")),
            models.CheckConstraint(
                name="job_running_has_start", condition=~Q(state__in=["running", "saving"]) | Q(started_at__isnull=False)
            ),
            models.CheckConstraint(
                name="job_end_has_time",
                condition=~Q(state__in=["succeeded", "failed", "crashed", "cancelled", "expired"]) | Q(finished_at__isnull=False),
            ),
            models.CheckConstraint(name="job_failure_has_sentence", condition=~Q(state__in=["failed", "crashed"]) | ~Q(error_sentence="")),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk} ({self.state})"

    @property
    def title(self) -> str:
        """The kind in words, as its handler declares it."""
        from .registry import title_of

        return title_of(self.kind)


class JobDependency(models.Model):
    """`job` starts only after `need` succeeded."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="dependencies")
    need = models.ForeignKey(Job, models.CASCADE, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "need"], name="one_dependency_per_pair"),
            models.CheckConstraint(name="job_does_not_need_itself", condition=~Q(job=F("need"))),
        ]

    def __str__(self) -> str:
        return f"{self.job_id} needs {self.need_id}"


class JobTransition(models.Model):
    """One line of a job's timeline."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="transitions")
    from_state = models.CharField(max_length=10, choices=State.choices)
    to_state = models.CharField(max_length=10, choices=State.choices)
    attempt = models.PositiveIntegerField()
    at = models.DateTimeField()
    facts = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(name="transition_states_known", condition=Q(from_state__in=State.values) & Q(to_state__in=State.values)),
        ]

    def __str__(self) -> str:
        return f"job {self.job_id}: {self.from_state} -> {self.to_state}"


class JobOutput(models.Model):
    """One output of a succeeded job; written in the same transaction as `succeeded`."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="outputs")
    kind = models.CharField(max_length=60)
    # File or folder in the store; empty where facts hold everything.
    key = models.CharField(max_length=255, blank=True)
    sha256 = models.CharField(max_length=64)
    size = models.PositiveBigIntegerField(default=0, help_text="Bytes.")
    facts = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["job", "kind"], name="one_output_per_job_and_kind")]

    def __str__(self) -> str:
        return f"{self.kind} of job {self.job_id}"


class JobCurve(models.Model):
    """One curve that a job drew while it worked, such as the loss of a fold. Written by `JobContext.curve`, thinned as it grows.

    x, y: equally long, x grows (a training: epochs passed). each: how many values the job gave for one point (their mean is kept).
    """

    job = models.ForeignKey(Job, models.CASCADE, related_name="curves")
    series = models.CharField(max_length=80)
    x = ArrayField(models.FloatField())
    y = ArrayField(models.FloatField())
    each = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["job", "series"], name="one_curve_per_job_and_series"),
            models.CheckConstraint(name="curve_series_not_blank", condition=~Q(series="")),
            models.CheckConstraint(name="curve_each_positive", condition=Q(each__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.series} of job {self.job_id}"
