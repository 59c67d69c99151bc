"""Niches of tissues as vectors, what is searched where, and what was found out about neighbours."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from pgvector.django import HalfVectorField

from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.cohorts.models import Cohort, Patient
from tissueboard.jobs.models import Job
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


class ReferenceChoice(models.Model):
    """A manager's word on which version answers by default in a cohort, before its niche sets cover what the older one covered."""

    cohort_path = "cohort"

    cohort = models.ForeignKey(Cohort, models.CASCADE, related_name="reference_choices")
    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="+")
    # Measured images and slides with virtual proteins are two references, also under one version.
    measured = models.BooleanField()
    family = models.CharField(max_length=40)
    why = models.CharField(max_length=200)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(auto_now=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["cohort", "family", "measured"], name="one_reference_choice_per_cohort")]

    def __str__(self) -> str:
        return f"version {self.version_id} in cohort {self.cohort_id}"


class NicheIndex(models.Model):
    """What `retrieval.build_index` made of one version's niche sets. Holds no right: who may see a set is asked of Postgres each time.

    key: folder of the set index in the store, "" while there are too few sets for one. n_sets, n_niches: in it, when it was built.
    nearest: whether the vectors of this version have an HNSW index. facts: {within_tumour, marker_scales}, see `indexing`.
    """

    version = models.OneToOneField(ModelVersion, models.CASCADE, related_name="niche_index")
    key = models.CharField(max_length=255, blank=True)
    n_sets = models.PositiveIntegerField()
    n_niches = models.PositiveIntegerField()
    nearest = models.BooleanField(default=False)
    # Sets that were written or withdrawn since.
    n_since = models.PositiveIntegerField(default=0)
    facts = models.JSONField(default=dict, blank=True)
    job = models.ForeignKey(Job, models.PROTECT, related_name="+")
    built_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"index of version {self.version_id}"


class OutcomeValue(models.Model):
    """Whether the outcomes of neighbours say more than age and stage in a cohort, measured by leaving each patient out; frozen.

    shown: what the rules say (`ml.transport.neighbour_value`). facts: k, n, events, gain with interval, why not, the curves' inputs.
    """

    cohort_path = "cohort"

    cohort = models.ForeignKey(Cohort, models.CASCADE, related_name="outcome_values")
    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="+")
    measured = models.BooleanField()
    endpoint = models.CharField(max_length=16)
    shown = models.BooleanField()
    facts = models.JSONField()
    job = models.ForeignKey(Job, models.PROTECT, related_name="+")
    code_version = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        indexes = [models.Index(fields=["cohort", "version", "endpoint", "-created_at"], name="outcome_value_newest")]

    def __str__(self) -> str:
        return f"{self.endpoint} of neighbours in cohort {self.cohort_id}"
