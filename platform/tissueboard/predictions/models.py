"""What a model gave about a slide, a multiplex image or a patient."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.cohorts.models import Patient
from tissueboard.jobs.models import Job
from tissueboard.model_registry.models import ModelVersion
from tissueboard.slides.models import Slide

KINDS = ("feature bag", "virtual map", "dense map", "niche set", "risk", "explanation", "embedding", "cells", "virtual stain")
# Kinds with a file that ml.slides.map_files reads.
MAPS = ("virtual map", "dense map")


class Prediction(models.Model):
    """One output with its source: model version, job, checksums of the inputs and code version.

    It is about a slide, or about a multiplex image (also one without a slide); a risk is about the patient alone.
    """

    cohort_path = "patient__cohort"

    class Kind(models.TextChoices):
        FEATURE_BAG = "feature bag"
        VIRTUAL_MAP = "virtual map"
        # The same channels from overlapping tiles, beside the virtual map that niches and risk are made from.
        DENSE_MAP = "dense map"
        NICHE_SET = "niche set"
        RISK = "risk"
        # What a risk of the slide stands on, tile by tile.
        EXPLANATION = "explanation"
        # VirTues' tokens of a multiplex image: one HDF5 file.
        EMBEDDING = "embedding"
        # The cells of a multiplex image, with what a model gave about each.
        CELLS = "cells"
        # A marker that the image lacks, painted by VirTues from the others: never measured. The last one that was asked for.
        VIRTUAL_STAIN = "virtual stain"

    kind = models.CharField(max_length=16, choices=Kind.choices)
    patient = models.ForeignKey(Patient, models.CASCADE, related_name="predictions")
    slide = models.ForeignKey(Slide, models.CASCADE, null=True, blank=True, related_name="predictions")
    image = models.ForeignKey(MultiplexImage, models.CASCADE, null=True, blank=True, related_name="predictions")
    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="predictions")
    job = models.ForeignKey(Job, models.PROTECT, related_name="+")
    # File or folder in the store; empty where facts hold everything.
    key = models.CharField(max_length=255, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    # Fold of the version that made it; null = mean over folds of a patient that none of them saw.
    fold = models.PositiveSmallIntegerField(null=True, blank=True)
    # True when the weights saw this patient: shown as such, and no risk is shown.
    in_sample = models.BooleanField(default=False)
    # {name: sha256} of what it was made from, and the code version.
    inputs = models.JSONField()
    code_version = models.CharField(max_length=64)
    facts = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(name="prediction_kind_known", condition=Q(kind__in=KINDS)),
            models.CheckConstraint(
                name="prediction_of_a_slide_or_an_image", condition=Q(kind="risk") | Q(slide__isnull=False) | Q(image__isnull=False)
            ),
            models.CheckConstraint(name="prediction_of_one_tissue", condition=Q(slide__isnull=True) | Q(image__isnull=True)),
            models.UniqueConstraint(
                fields=["slide", "kind", "version"], name="one_output_per_slide_and_version", condition=Q(slide__isnull=False)
            ),
            models.UniqueConstraint(
                fields=["image", "kind", "version"], name="one_output_per_image_and_version", condition=Q(image__isnull=False)
            ),
            models.UniqueConstraint(
                fields=["patient", "kind", "version"],
                name="one_output_per_patient_and_version",
                condition=Q(slide__isnull=True, image__isnull=True),
            ),
        ]
        indexes = [models.Index(fields=["slide", "kind"]), models.Index(fields=["patient", "kind"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"
