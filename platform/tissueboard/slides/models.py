"""Whole-slide images."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.cohorts.models import Sample

SLIDE_STATES = ("checking", "removing identifiers", "building tiles", "ready", "needs attention", "rejected")


class Slide(models.Model):
    """One slide: a sealed original that no route reads, and a working slide without identifiers that everything reads.

    Lengths: width and height in level-0 px of the working slide, mpp in um per level-0 px, tissue in mm2.
    """

    cohort_path = "sample__patient__cohort"

    class State(models.TextChoices):
        CHECKING = "checking"
        REMOVING_IDENTIFIERS = "removing identifiers"
        BUILDING_TILES = "building tiles"
        READY = "ready"
        NEEDS_ATTENTION = "needs attention"
        REJECTED = "rejected"

    sample = models.ForeignKey(Sample, models.CASCADE, related_name="slides")
    name = models.CharField(max_length=80, help_text="A code without identifiers.")
    state = models.CharField(max_length=24, choices=State.choices, default=State.CHECKING)
    stain = models.CharField(max_length=24, default="H&E")
    scanner = models.CharField(max_length=80, blank=True)
    site = models.CharField(max_length=80, blank=True, help_text="Hospital or laboratory where it was made.")
    stain_batch = models.CharField(max_length=80, blank=True)
    simulated = models.BooleanField(default=False)
    mpp = models.FloatField(null=True, blank=True)
    mpp_source = models.CharField(max_length=16, blank=True, help_text="file, or override with the person who gave it.")
    width = models.PositiveIntegerField(default=0)
    height = models.PositiveIntegerField(default=0)
    tissue_mm2 = models.FloatField(null=True, blank=True)
    vendor = models.CharField(max_length=40, blank=True)
    sealed_key = models.CharField(max_length=255, blank=True)
    sealed_sha256 = models.CharField(max_length=64)
    working_key = models.CharField(max_length=255, blank=True)
    working_sha256 = models.CharField(max_length=64, blank=True)
    findings = models.JSONField(default=list, blank=True)
    facts = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["sample_id", "name"]
        constraints = [
            models.UniqueConstraint(fields=["sample", "sealed_sha256"], name="one_slide_per_file_and_sample"),
            models.CheckConstraint(name="slide_state_known", condition=Q(state__in=SLIDE_STATES)),
            # The upper limits also refuse NaN, which Postgres takes for larger than everything.
            models.CheckConstraint(name="slide_mpp_positive", condition=Q(mpp__isnull=True) | Q(mpp__gt=0, mpp__lt=1000)),
            models.CheckConstraint(
                name="slide_ready_is_whole",
                condition=~Q(state="ready")
                | (Q(mpp__gt=0, mpp__lt=1000, width__gt=0, height__gt=0) & ~Q(working_key="") & ~Q(working_sha256="")),
            ),
        ]
        indexes = [models.Index(fields=["state"])]

    def __str__(self) -> str:
        return self.name
