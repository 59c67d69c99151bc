"""What people brought, and what we made of it."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.cohorts.models import Cohort

IMPORT_STATES = ("receiving", "checking", "removing identifiers", "building tiles", "ready", "needs attention", "rejected")


class Import(models.Model):
    """One file that somebody brought into a cohort, with the report on it. Its bytes are kept until somebody decides."""

    cohort_path = "cohort"

    class Kind(models.TextChoices):
        SLIDE = "slide"
        CLINICAL = "clinical"
        MULTIPLEX = "multiplex"

    class State(models.TextChoices):
        RECEIVING = "receiving"
        CHECKING = "checking"
        REMOVING_IDENTIFIERS = "removing identifiers"
        BUILDING_TILES = "building tiles"
        READY = "ready"
        NEEDS_ATTENTION = "needs attention"
        REJECTED = "rejected"

    cohort = models.ForeignKey(Cohort, models.CASCADE, related_name="imports")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    state = models.CharField(max_length=24, choices=State.choices, default=State.RECEIVING)
    # As the person named it. Shown to contributors only: a file name can identify a patient.
    file_name = models.CharField(max_length=255)
    size_bytes = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    key = models.CharField(max_length=255, blank=True, help_text="Where the received bytes lie in the store.")
    dry_run = models.BooleanField(default=False)
    # Table imports: how columns are read (mapping, event coding, unit of time).
    options = models.JSONField(default=dict, blank=True)
    # [{code, severity, file, where, sentence, hint}]
    findings = models.JSONField(default=list, blank=True)
    facts = models.JSONField(default=dict, blank=True)
    job_id = models.BigIntegerField(null=True, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(name="import_state_known", condition=Q(state__in=IMPORT_STATES)),
            models.CheckConstraint(name="import_kind_known", condition=Q(kind__in=("slide", "clinical", "multiplex"))),
        ]

    def __str__(self) -> str:
        return f"import {self.pk} of {self.kind}"
