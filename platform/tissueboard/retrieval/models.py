"""Niches of tissues as vectors."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from pgvector.django import HalfVectorField

from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.cohorts.models import Patient
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction
from tissueboard.slides.models import Slide


class Niche(models.Model):
    """One niche of a tissue's retrieval set: a weighted medoid with its box.

    The tissue is a slide (boxes in level-0 px of the working slide) or a multiplex image (level-0 px of it), never both. patient: hers
    whose tissue it is, kept equal to the prediction's by `publishing`: the right to see the row, and who is the same person, hang on it.
    """

    cohort_path = "patient__cohort"

    prediction = models.ForeignKey(Prediction, models.CASCADE, related_name="niches")
    patient = models.ForeignKey(Patient, models.CASCADE, related_name="niches")
    slide = models.ForeignKey(Slide, models.CASCADE, null=True, blank=True, related_name="niches")
    image = models.ForeignKey(MultiplexImage, models.CASCADE, null=True, blank=True, related_name="niches")
    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="niches")
    rank = models.PositiveSmallIntegerField()
    # Length differs from version to version, so the column has no fixed dimension; an index is made per version.
    vector = HalfVectorField()
    weight = models.FloatField()
    x = models.FloatField()
    y = models.FloatField()
    width = models.FloatField()
    height = models.FloatField()
    # Mean of each virtual marker over the niche, by name (what matches, what differs).
    proteins = models.JSONField(default=dict)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["prediction_id", "rank"]
        constraints = [
            models.UniqueConstraint(fields=["prediction", "rank"], name="one_niche_per_rank"),
            models.CheckConstraint(name="niche_weight_in_range", condition=Q(weight__gt=0, weight__lte=1)),
            models.CheckConstraint(
                name="niche_of_one_tissue",
                condition=Q(slide__isnull=False, image__isnull=True) | Q(slide__isnull=True, image__isnull=False),
            ),
        ]
        indexes = [models.Index(fields=["version", "patient"], name="niche_version_patient")]

    def __str__(self) -> str:
        return f"niche {self.rank} of prediction {self.prediction_id}"
