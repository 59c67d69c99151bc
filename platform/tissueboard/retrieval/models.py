"""Niches of tissues as vectors."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from pgvector.django import HalfVectorField

from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction
from tissueboard.slides.models import Slide


class Niche(models.Model):
    """One niche of a slide's retrieval set: a weighted medoid with its box in level-0 px of the working slide."""

    cohort_path = "slide__sample__patient__cohort"

    prediction = models.ForeignKey(Prediction, models.CASCADE, related_name="niches")
    slide = models.ForeignKey(Slide, models.CASCADE, related_name="niches")
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
        ordering = ["slide_id", "rank"]
        constraints = [
            models.UniqueConstraint(fields=["prediction", "rank"], name="one_niche_per_rank"),
            models.CheckConstraint(name="niche_weight_in_range", condition=Q(weight__gt=0, weight__lte=1)),
        ]
        indexes = [models.Index(fields=["version", "slide"])]

    def __str__(self) -> str:
        return f"niche {self.rank} of slide {self.slide_id}"
