"""Versions of models: what they are, what they saw, what may be said of them."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from tissueboard.cohorts.access import SpanningQuerySet
from tissueboard.cohorts.models import Cohort

LABELS = ("released", "trained here", "trained on simulated tissue", "fixed, nothing trained", "imported", "untrained")


class ModelVersion(models.Model):
    """One set of weights of one family. Visible to those who may see all cohorts that it was trained on."""

    public_when_empty = True

    class Label(models.TextChoices):
        RELEASED = "released"
        TRAINED_HERE = "trained here"
        SIMULATED = "trained on simulated tissue"
        FIXED = "fixed, nothing trained"
        IMPORTED = "imported"
        UNTRAINED = "untrained"

    family = models.CharField(max_length=40, help_text="A name in ml.families.FAMILIES.")
    name = models.CharField(max_length=80)
    label = models.CharField(max_length=32, choices=Label.choices)
    config = models.JSONField()
    key = models.CharField(max_length=255, help_text="Folder of weights in the store.")
    sha256 = models.CharField(max_length=64)
    # Pitch that it was made for, um per cell or tile; null where it has none.
    pitch_um = models.FloatField(null=True, blank=True)
    panel = models.JSONField(default=list, blank=True, help_text="Names of its outputs, in order.")
    metrics = models.JSONField(default=dict, blank=True)
    # {inputs: {name: sha256}, code_version, job, seconds, ...}
    provenance = models.JSONField()
    licence = models.CharField(max_length=80)
    pretraining_overlap = models.CharField(max_length=8, default="unknown")
    # The model versions that its inputs came from (a risk model stands on a HEX version).
    parents = models.ManyToManyField("self", symmetrical=False, related_name="children", blank=True)
    cohorts = models.ManyToManyField(Cohort, related_name="model_versions", blank=True)
    is_current = models.BooleanField(default=True, help_text="The one that pipelines use for its family and cohorts.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = SpanningQuerySet.as_manager()

    class Meta:
        ordering = ["family", "-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["family", "name"], name="one_version_per_name"),
            models.CheckConstraint(name="model_label_known", condition=Q(label__in=LABELS)),
            models.CheckConstraint(name="overlap_known", condition=Q(pretraining_overlap__in=("yes", "no", "unknown"))),
        ]

    def __str__(self) -> str:
        return f"{self.family} {self.name}"


class Member(models.Model):
    """A patient (hashed) that one fold of a version was fitted on (DESIGNS 9, Membership)."""

    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="members")
    fold = models.PositiveSmallIntegerField()
    patient_hash = models.CharField(max_length=64)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["version", "fold", "patient_hash"], name="a_fold_sees_a_patient_once")]
        indexes = [models.Index(fields=["version", "patient_hash"])]

    def __str__(self) -> str:
        return f"fold {self.fold} of version {self.version_id}"
