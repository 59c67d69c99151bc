"""Frozen analyses. Survival keeps no tables: it reads those of the apps below."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.cohorts.models import Cohort, Patient
from tissueboard.jobs.models import Job
from tissueboard.model_registry.models import ModelVersion

DISCOVERY_KINDS = ("biomarkers", "risk groups")


class Discovery(models.Model):
    """What was found on the cells of a cohort under a version of VirTues: one row that is never changed again.

    result: as ml.discovery.reports, and what was in-sample. The two files name her patients: when one of them is withdrawn they are
    deleted (`discovery_files.forget`), and the figures stay.
    """

    cohort_path = "cohort"

    class Kind(models.TextChoices):
        BIOMARKERS = "biomarkers"
        RISK_GROUPS = "risk groups"

    cohort = models.ForeignKey(Cohort, models.CASCADE, related_name="discoveries")
    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="discoveries")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    # {"variable", "value"} or {"endpoint"}, and config: every setting.
    params = models.JSONField()
    result = models.JSONField()
    # Patients whose outcomes took part, and how many of them responded or had the event.
    n = models.PositiveIntegerField()
    events = models.PositiveIntegerField()
    patients = models.ManyToManyField(Patient, related_name="discoveries")
    # One row per cell (Parquet) and per patient (CSV); empty after a withdrawal.
    cells_key = models.CharField(max_length=255, blank=True)
    cells_sha256 = models.CharField(max_length=64, blank=True)
    patients_key = models.CharField(max_length=255, blank=True)
    patients_sha256 = models.CharField(max_length=64, blank=True)
    # {name: sha256} of the cells that it was made from, and the code version.
    inputs = models.JSONField()
    code_version = models.CharField(max_length=64)
    job = models.ForeignKey(Job, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        verbose_name_plural = "discoveries"
        constraints = [models.CheckConstraint(name="discovery_kind_known", condition=Q(kind__in=DISCOVERY_KINDS))]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    @property
    def asked(self) -> str:
        """What was asked of the patients, in words: "response is pCR" or an endpoint."""
        return self.params.get("endpoint") or f"{self.params['variable']} is {self.params['value']}"
