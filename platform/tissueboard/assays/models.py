"""Measured molecular data registered to a slide."""

from __future__ import annotations

from django.db import models

from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.cohorts.models import Sample
from tissueboard.slides.models import Slide


class Panel(models.Model):
    """A named, ordered list of markers. Holds no patient data, so it is the same for all cohorts."""

    name = models.CharField(max_length=80, unique=True)
    markers = models.JSONField()

    def __str__(self) -> str:
        return self.name


class Assay(models.Model):
    """Marker intensities per tile, measured on the tissue of a slide (label table of HEX: spec 1.1).

    key: a Parquet table with columns x, y (level-0 px of the working slide, top-left), then one column per marker, 0..1.
    """

    cohort_path = "sample__patient__cohort"

    sample = models.ForeignKey(Sample, models.CASCADE, related_name="assays")
    slide = models.ForeignKey(Slide, models.CASCADE, related_name="assays")
    panel = models.ForeignKey(Panel, models.PROTECT)
    kind = models.CharField(max_length=24, help_text="codex, imc, ... or simulated codex.")
    tile_um = models.FloatField()
    key = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64)
    simulated = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["slide", "kind"], name="one_assay_of_a_kind_per_slide")]

    def __str__(self) -> str:
        return f"{self.kind} on slide {self.slide_id}"
