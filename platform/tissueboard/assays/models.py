"""Measured molecular data: intensities per tile, images of measured channels, their cells, their place on a slide, their proteins."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.cohorts.models import Cohort, Sample
from tissueboard.slides.models import Slide

MULTIPLEX_STATES = ("checking", "building tiles", "ready", "needs attention", "rejected")


class Panel(models.Model):
    """A named, ordered list of markers. Holds no patient data, so it is the same for all cohorts."""

    name = models.CharField(max_length=80, unique=True)
    markers = models.JSONField()

    def __str__(self) -> str:
        return self.name


class Assay(models.Model):
    """Marker intensities per tile, measured on the tissue of a slide (label table of HEX: spec 1.1).

    key: a Parquet table with columns x, y (level-0 px of the working slide, top-left), then one column per marker: finite and >= 0, in the
    unit in which they came. Scaling is each training's choice, so all measured slides of a training have to come in one unit.
    facts: n_tiles, scale (what the values look like: 0..1, 0..255 or raw counts), source (table, or multiplex image), source_sha256.
    findings: what a person should know about them, without identifiers.
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
    facts = models.JSONField(default=dict, blank=True)
    findings = models.JSONField(default=list, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["slide", "kind"], name="one_assay_of_a_kind_per_slide")]

    def __str__(self) -> str:
        return f"{self.kind} on slide {self.slide_id}"


class MultiplexImage(models.Model):
    """An image of measured channels: the sealed original, and an OME-Zarr pyramid made from it once, without header texts.

    width, height: px of the finest level; mpp: um per px there. channels: names in the order of the planes. key: a folder in the store.
    facts: format, names_source, signal (a dict per channel, ml.multiplex.signal.Signal.facts), given (what a person stated; who).
    """

    cohort_path = "sample__patient__cohort"

    class State(models.TextChoices):
        CHECKING = "checking"
        BUILDING_TILES = "building tiles"
        READY = "ready"
        NEEDS_ATTENTION = "needs attention"
        REJECTED = "rejected"

    class Technology(models.TextChoices):
        CODEX = "codex", "CODEX / PhenoCycler"
        IMC = "imc", "Imaging mass cytometry"
        MIBI = "mibi", "MIBI"
        VECTRA = "vectra", "Vectra / PhenoImager"
        CYCIF = "cycif", "CyCIF"
        IF = "if", "Immunofluorescence"
        OTHER = "other", "Other"
        UNKNOWN = "unknown", "Not stated"

    sample = models.ForeignKey(Sample, models.CASCADE, related_name="multiplex_images")
    name = models.CharField(max_length=80, help_text="A code without identifiers.")
    technology = models.CharField(max_length=12, choices=Technology.choices, default=Technology.UNKNOWN)
    state = models.CharField(max_length=24, choices=State.choices, default=State.CHECKING)
    channels = models.JSONField(default=list, blank=True)
    mpp = models.FloatField(null=True, blank=True)
    mpp_source = models.CharField(max_length=16, blank=True, help_text="file, or override with the person who gave it.")
    width = models.PositiveIntegerField(default=0)
    height = models.PositiveIntegerField(default=0)
    dtype = models.CharField(max_length=12, blank=True)
    key = models.CharField(max_length=255, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    sealed_key = models.CharField(max_length=255, blank=True)
    sealed_sha256 = models.CharField(max_length=64)
    simulated = models.BooleanField(default=False)
    findings = models.JSONField(default=list, blank=True)
    facts = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["sample_id", "name"]
        constraints = [
            models.UniqueConstraint(fields=["sample", "sealed_sha256"], name="one_multiplex_image_per_file_and_sample"),
            models.CheckConstraint(name="multiplex_state_known", condition=Q(state__in=MULTIPLEX_STATES)),
            models.CheckConstraint(name="multiplex_mpp_positive", condition=Q(mpp__isnull=True) | Q(mpp__gt=0, mpp__lt=1000)),
            models.CheckConstraint(
                name="multiplex_ready_is_whole",
                condition=~Q(state="ready") | (Q(mpp__gt=0, mpp__lt=1000, width__gt=0, height__gt=0) & ~Q(key="") & ~Q(sha256="")),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def size_mm(self) -> tuple[float, float] | None:
        """Width and height in mm."""
        return None if self.mpp is None or not self.width else (self.width * self.mpp / 1000, self.height * self.mpp / 1000)


class CellMask(models.Model):
    """The cells of a multiplex image: which pixels are of which cell, and, where there is one, a table of them.

    key: a folder in the store (ml.multiplex.mask_files), of the image's size. table_key: Parquet with cell_id, columns of types, numbers.
    facts: mask (ml.multiplex.masks.mask_facts), table (ml.multiplex.cell_tables.CellTable.facts). A waiting mask takes nobody's place; a
    replaced one stays as a row, so that what was made with it can be told.
    """

    cohort_path = "image__sample__patient__cohort"

    class State(models.TextChoices):
        READY = "ready"
        NEEDS_ATTENTION = "needs attention"

    image = models.ForeignKey(MultiplexImage, models.CASCADE, related_name="cell_masks")
    state = models.CharField(max_length=24, choices=State.choices, default=State.READY)
    key = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64)
    n_cells = models.PositiveIntegerField()
    table_key = models.CharField(max_length=255, blank=True)
    table_sha256 = models.CharField(max_length=64, blank=True)
    facts = models.JSONField(default=dict, blank=True)
    findings = models.JSONField(default=list, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    replaced_at = models.DateTimeField(null=True, blank=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["image", "state"], condition=Q(replaced_at__isnull=True), name="one_cell_mask_of_a_state_per_image"
            )
        ]

    def __str__(self) -> str:
        return f"cells of image {self.image_id}"


class Alignment(models.Model):
    """Where a multiplex image lies on an H&E slide of the same patient.

    matrix: two rows of three numbers, from pixels of the image to px0 of the working slide. landmarks: [{image: [x, y], slide: [x, y],
    off_um}] that it was fitted to, or none. residual_um: their root mean square distance. facts: ml.multiplex.align.facts_of.
    """

    cohort_path = "image__sample__patient__cohort"

    image = models.ForeignKey(MultiplexImage, models.CASCADE, related_name="alignments")
    slide = models.ForeignKey(Slide, models.CASCADE, related_name="alignments")
    matrix = models.JSONField()
    landmarks = models.JSONField(default=list, blank=True)
    residual_um = models.FloatField(null=True, blank=True)
    facts = models.JSONField(default=dict, blank=True)
    findings = models.JSONField(default=list, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    replaced_at = models.DateTimeField(null=True, blank=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["image", "slide"], condition=Q(replaced_at__isnull=True), name="one_alignment_per_image_and_slide"
            )
        ]

    def __str__(self) -> str:
        return f"image {self.image_id} on slide {self.slide_id}"


class ChannelProtein(models.Model):
    """What a cohort takes a channel for, where it differs from the house's table (ml.multiplex.uniprot). The newest row of a channel rules.

    key: ml.multiplex.uniprot.channel_key of its name. uniprot: an accession, "" for no protein. house: the house's table rules again.
    """

    cohort_path = "cohort"

    cohort = models.ForeignKey(Cohort, models.CASCADE, related_name="channel_proteins")
    channel = models.CharField(max_length=80)
    key = models.CharField(max_length=80)
    uniprot = models.CharField(max_length=16, blank=True)
    house = models.BooleanField(default=False)
    note = models.CharField(max_length=200, blank=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    at = models.DateTimeField(auto_now_add=True)
    replaced_at = models.DateTimeField(null=True, blank=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["cohort", "key"], condition=Q(replaced_at__isnull=True), name="one_protein_per_channel"),
            models.CheckConstraint(name="house_names_no_protein", condition=Q(house=False) | Q(uniprot="")),
        ]

    def __str__(self) -> str:
        return f"{self.channel}: {self.uniprot or 'none'}"
