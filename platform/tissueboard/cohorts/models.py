"""Cohorts and the people in them: who may see, who is treated, what happened when."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from .access import Role, ScopedQuerySet

# 200 years: beyond it a time is a mistake. The limit also refuses NaN, which Postgres takes for larger than everything.
MOST_DAYS = 73_050
SUBJECTS_TCGA = r"^(TCGA-[A-Za-z0-9]{2}-[A-Za-z0-9]{4})"


class Cohort(models.Model):
    """A set of patients with one list of members. The only level at which rights are held."""

    cohort_path = "pk"

    name = models.CharField(max_length=80, unique=True)
    description = models.TextField(blank=True)
    simulated = models.BooleanField(default=False, help_text="Tissue and records made by the simulator.")
    # First group of this pattern in a file's name is the patient's code; a name that does not match is replaced by a pseudonym.
    code_pattern = models.CharField(max_length=200, default=SUBJECTS_TCGA)
    min_group_size = models.PositiveSmallIntegerField(default=5, help_text="Smaller groups are not drawn for viewers.")
    neighbours = models.PositiveSmallIntegerField(default=5, help_text="k of the similar cases, fixed per cohort.")
    created_at = models.DateTimeField(auto_now_add=True)
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, through="Membership", related_name="cohorts")

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [models.CheckConstraint(name="cohort_name_not_blank", condition=~Q(name=""))]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A user's role in a cohort."""

    cohort_path = "cohort"

    cohort = models.ForeignKey(Cohort, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role.choices)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cohort", "user"], name="one_role_per_member"),
            models.CheckConstraint(name="membership_role_known", condition=Q(role__in=Role.values)),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} in {self.cohort}"


class VariableKind(models.TextChoices):
    NUMBER = "number"
    CATEGORY = "category"
    DATE = "date"
    BOOLEAN = "boolean"
    TEXT = "text"


class ClinicalVariable(models.Model):
    """One line of a cohort's data dictionary: what a key of Patient.clinical means."""

    cohort_path = "cohort"

    cohort = models.ForeignKey(Cohort, models.CASCADE, related_name="variables")
    name = models.CharField(max_length=80)
    label = models.CharField(max_length=120, blank=True)
    kind = models.CharField(max_length=10, choices=VariableKind.choices)
    unit = models.CharField(max_length=24, blank=True)
    categories = models.JSONField(default=list, blank=True, help_text="Allowed values of a category, in order.")

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["cohort", "name"], name="one_meaning_per_variable"),
            models.CheckConstraint(name="variable_kind_known", condition=Q(kind__in=VariableKind.values)),
        ]

    def __str__(self) -> str:
        return self.name


class Patient(models.Model):
    """One person, known by a code only. A case is this patient with all that hangs on her."""

    cohort_path = "cohort"

    cohort = models.ForeignKey(Cohort, models.CASCADE, related_name="patients")
    code = models.CharField(max_length=64)
    # Values by ClinicalVariable.name; ages in years, dates as ISO strings.
    clinical = models.JSONField(default=dict, blank=True)
    # What the tumour board is asked about her.
    question = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["code"]
        constraints = [
            models.UniqueConstraint(fields=["cohort", "code"], name="one_patient_per_code"),
            models.CheckConstraint(name="patient_code_not_blank", condition=~Q(code="")),
        ]

    def __str__(self) -> str:
        return self.code


class TimePoint(models.TextChoices):
    PRE = "pre", "before treatment"
    ON = "on", "on treatment"
    POST = "post", "after treatment"
    UNKNOWN = "unknown", "not stated"


class Sample(models.Model):
    """A specimen of one tumour at one time point."""

    cohort_path = "patient__cohort"

    patient = models.ForeignKey(Patient, models.CASCADE, related_name="samples")
    code = models.CharField(max_length=64)
    tumour = models.CharField(max_length=40, default="primary")
    time_point = models.CharField(max_length=8, choices=TimePoint.choices, default=TimePoint.UNKNOWN)
    body_site = models.CharField(max_length=80, blank=True)
    procedure = models.CharField(max_length=80, blank=True)
    # Days since the patient's time zero, or a calendar date; either may be unknown.
    day = models.FloatField(null=True, blank=True)
    date = models.DateField(null=True, blank=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["patient_id", "day", "code"]
        constraints = [
            models.UniqueConstraint(fields=["patient", "code"], name="one_sample_per_code"),
            models.CheckConstraint(name="sample_time_point_known", condition=Q(time_point__in=TimePoint.values)),
        ]

    def __str__(self) -> str:
        return self.code


class EventKind(models.TextChoices):
    SAMPLING = "sampling"
    TREATMENT = "treatment"
    PROGRESSION = "progression"
    BIOMARKER = "biomarker"
    MUTATION = "mutation"
    DECISION = "decision"


class EventState(models.TextChoices):
    DONE = "done"
    FAILED = "failed"
    PENDING = "pending"


class Event(models.Model):
    """Something that was done to, measured in or observed of a patient."""

    cohort_path = "patient__cohort"

    patient = models.ForeignKey(Patient, models.CASCADE, related_name="events")
    sample = models.ForeignKey(Sample, models.CASCADE, null=True, blank=True, related_name="events")
    kind = models.CharField(max_length=12, choices=EventKind.choices)
    name = models.CharField(max_length=120)
    state = models.CharField(max_length=8, choices=EventState.choices, default=EventState.DONE)
    value = models.CharField(max_length=120, blank=True)
    unit = models.CharField(max_length=24, blank=True)
    method = models.CharField(max_length=80, blank=True, help_text="How it was measured, e.g. IHC 22C3, NGS panel.")
    # Days since time zero (end_day for something that lasts), or calendar dates.
    day = models.FloatField(null=True, blank=True)
    end_day = models.FloatField(null=True, blank=True)
    date = models.DateField(null=True, blank=True)
    source = models.CharField(max_length=120, help_text="Where this was read, e.g. the imported file.")

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["patient_id", "day", "pk"]
        constraints = [
            models.CheckConstraint(name="event_kind_known", condition=Q(kind__in=EventKind.values)),
            models.CheckConstraint(name="event_state_known", condition=Q(state__in=EventState.values)),
            models.CheckConstraint(name="event_ends_after_start", condition=Q(end_day__isnull=True) | Q(end_day__gte=F("day"))),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Endpoint(models.Model):
    """A time-to-event outcome of one patient, in days since time zero; event True = it happened."""

    cohort_path = "patient__cohort"

    patient = models.ForeignKey(Patient, models.CASCADE, related_name="endpoints")
    name = models.CharField(max_length=16, help_text="OS, DSS, DFI, PFI ...")
    time_days = models.FloatField()
    event = models.BooleanField()
    entry_days = models.FloatField(default=0.0, help_text="Left truncation: at risk in (entry, time].")
    time_zero = models.CharField(max_length=40, default="sampling")
    source = models.CharField(max_length=120)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["patient_id", "name"]
        constraints = [
            models.UniqueConstraint(fields=["patient", "name"], name="one_outcome_per_endpoint"),
            models.CheckConstraint(name="endpoint_time_not_negative", condition=Q(time_days__gte=0, time_days__lt=MOST_DAYS)),
            models.CheckConstraint(name="endpoint_entry_before_time", condition=Q(entry_days__gte=0, entry_days__lte=F("time_days"))),
        ]

    def __str__(self) -> str:
        return f"{self.name} of patient {self.patient_id}"


class Withdrawal(models.Model):
    """A patient who was taken out of a cohort, with all that hung on her. Rows are only added; facts: how much went, and ids of models
    that had been fitted on her."""

    cohort_path = "cohort"

    cohort = models.ForeignKey(Cohort, models.CASCADE, related_name="withdrawals")
    code = models.CharField(max_length=64)
    why = models.CharField(max_length=200)
    withdrawn_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    withdrawn_at = models.DateTimeField(auto_now_add=True)
    facts = models.JSONField(default=dict, blank=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["-withdrawn_at"]

    def __str__(self) -> str:
        return f"withdrawal of {self.code}"


class ClinicalChange(models.Model):
    """One correction of a clinical value: old, new, who, why. Rows are only added."""

    cohort_path = "patient__cohort"

    patient = models.ForeignKey(Patient, models.CASCADE, related_name="changes")
    variable = models.CharField(max_length=80)
    old = models.JSONField(null=True)
    new = models.JSONField(null=True)
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True)
    why = models.CharField(max_length=200)
    changed_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["-changed_at"]

    def __str__(self) -> str:
        return f"{self.variable} of patient {self.patient_id}"
