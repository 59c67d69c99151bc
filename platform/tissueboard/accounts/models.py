"""Users, their tokens, and the log of who looked at what."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q


class User(AbstractUser):
    """A person who signs in. Rights are memberships of cohorts; is_staff opens the admin and job tracebacks, no patient."""


class Token(models.Model):
    """A bearer token for REST. Only its SHA-256 is kept."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tokens")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["user", "expires_at"])]

    def __str__(self) -> str:
        return f"token of {self.user}"


class AccessLog(models.Model):
    """Who read or changed what, when, from where. Append-only: a database trigger refuses update and delete."""

    class Result(models.TextChoices):
        ALLOWED = "allowed"
        REFUSED = "refused"

    at = models.DateTimeField(auto_now_add=True)
    # Plain numbers and texts, not foreign keys: the log outlives what it is about.
    user_id = models.BigIntegerField(null=True)
    username = models.CharField(max_length=150)
    verb = models.CharField(max_length=40)
    object_type = models.CharField(max_length=40)
    object_id = models.CharField(max_length=64)
    cohort_id = models.BigIntegerField(null=True)
    patient_code = models.CharField(max_length=64, blank=True)
    address = models.CharField(max_length=64, blank=True)
    path = models.CharField(max_length=300, blank=True)
    result = models.CharField(max_length=8, choices=Result.choices, default=Result.ALLOWED)

    class Meta:
        ordering = ["-at"]
        indexes = [models.Index(fields=["cohort_id", "-at"])]
        constraints = [models.CheckConstraint(name="access_result_known", condition=Q(result__in=["allowed", "refused"]))]

    def __str__(self) -> str:
        return f"{self.username} {self.verb} {self.object_type} {self.object_id}"
