"""Whole-slide images."""

from __future__ import annotations

import uuid

from django.conf import settings
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
    regions_revision = models.PositiveIntegerField(default=0, help_text="How often the regions that say what is processed changed.")
    created_at = models.DateTimeField(auto_now_add=True)

    # Checksum of the regions that `tiling.mask_of` took on this object ("" for the whole slide); not kept in the database.
    processed_regions: str | None = None

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


class RegionImport(models.Model):
    """A file of regions that somebody sent: checked first, brought in when she says what each class is for.

    content: the regions as our own GeoJSON (px0 of the working slide), packed, while it waits. classes: a row per class and type of
    object (see `region_imports.classes_of`). findings: the first of them; n_findings: all. whole_file: coordinates were those of the whole
    original, not of its scanned part.
    """

    cohort_path = "slide__sample__patient__cohort"

    class State(models.TextChoices):
        WAITING = "waiting"
        IMPORTED = "imported"
        DISCARDED = "discarded"
        REJECTED = "rejected"

    slide = models.ForeignKey(Slide, models.CASCADE, related_name="region_imports")
    state = models.CharField(max_length=12, choices=State.choices, default=State.WAITING)
    file_name = models.CharField(max_length=255)
    size_bytes = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    whole_file = models.BooleanField(default=False)
    content = models.BinaryField(default=b"")
    classes = models.JSONField(default=list)
    findings = models.JSONField(default=list)
    n_findings = models.PositiveIntegerField(default=0)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.file_name} for {self.slide}"


class Region(models.Model):
    """Something outlined or noted on a slide, in px0 of its working slide.

    geometry: GeoJSON. role: whether it says what is processed. area_px0: of polygons, else 0. external_id: QuPath's id, given back.
    A removed region stays as a row, so that what a map was made with can be told; every read leaves it out.
    """

    cohort_path = "slide__sample__patient__cohort"

    class Role(models.TextChoices):
        ANALYSE = "analyse"
        EXCLUDE = "exclude"
        ANNOTATION = "annotation"

    class Source(models.TextChoices):
        DRAWN = "drawn"
        IMPORTED = "imported"

    slide = models.ForeignKey(Slide, models.CASCADE, related_name="regions")
    role = models.CharField(max_length=12, choices=Role.choices, default=Role.ANNOTATION)
    geometry = models.JSONField()
    n_points = models.PositiveIntegerField()
    area_px0 = models.FloatField(default=0.0)
    object_type = models.CharField(max_length=12, default="annotation")
    classification = models.CharField(max_length=200, blank=True)
    colour = models.CharField(max_length=7, blank=True, help_text="#rrggbb of the class, where one was given.")
    name = models.CharField(max_length=200, blank=True)
    note = models.TextField(max_length=2000, blank=True)
    measurements = models.JSONField(default=dict, blank=True)
    external_id = models.UUIDField(default=uuid.uuid4)
    source = models.CharField(max_length=12, choices=Source.choices, default=Source.DRAWN)
    file = models.ForeignKey(RegionImport, models.SET_NULL, null=True, blank=True, related_name="regions")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    changed_at = models.DateTimeField(null=True, blank=True)
    removed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    removed_at = models.DateTimeField(null=True, blank=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["slide", "external_id"], condition=Q(removed_at__isnull=True), name="one_region_per_id_and_slide"
            ),
            models.CheckConstraint(name="region_role_known", condition=Q(role__in=("analyse", "exclude", "annotation"))),
            # Only an area can say what is processed.
            models.CheckConstraint(name="region_processed_is_area", condition=Q(role="annotation") | Q(area_px0__gt=0)),
        ]
        indexes = [models.Index(fields=["slide", "role"], condition=Q(removed_at__isnull=True), name="region_live_by_role")]

    def __str__(self) -> str:
        return self.name or self.classification or f"region {self.pk}"
