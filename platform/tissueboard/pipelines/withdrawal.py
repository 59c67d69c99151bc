"""Withdrawal of a patient: her records, files, predictions and vectors go, and every index is made again without her.

What stays, and is said: the access log and the row of the withdrawal (her code, who, when, why), models that were fitted on her (they
keep a hash of her code; train them again to be rid of her), and figures that were frozen over a cohort.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import models, transaction
from django.db.models import Q
from django.db.models.deletion import Collector

from tissueboard.accounts.audit import record
from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Patient, Withdrawal
from tissueboard.errors import Code, NotVisible, TissueboardError
from tissueboard.intake.models import Import
from tissueboard.jobs.models import ACTIVE, WAITING, Job, JobOutput, State
from tissueboard.jobs.state import advance
from tissueboard.model_registry.models import Member, ModelVersion
from tissueboard.model_registry.services import hash_of
from tissueboard.outcomes.discovery_files import forget
from tissueboard.predictions.models import Prediction
from tissueboard.retrieval.indexing import rebuild_without
from tissueboard.slides.models import Slide
from tissueboard.store import store

MAX_WHY = 200


@dataclass(frozen=True)
class Footprint:
    """What there is of a patient. models: versions that were fitted on her, which stay. tables: received tables that are kept still."""

    slides: int
    images: int
    predictions: int
    niches: int
    models: list[ModelVersion]
    tables: int


def footprint(user: Any, patient: Patient) -> Footprint:
    """What a withdrawal would take away, and what would stay. Needs manager. Errors: NotVisible, RoleMissing."""
    require(user, patient.cohort, Role.MANAGER)
    outputs = Prediction.objects.filter(patient=patient)
    return Footprint(
        slides=Slide.objects.filter(sample__patient=patient).count(),
        images=MultiplexImage.objects.filter(sample__patient=patient).count(),
        predictions=outputs.count(),
        niches=patient.niches.count(),
        models=list(ModelVersion.objects.visible_to(user).filter(pk__in=_saw(patient)).order_by("family", "name")),
        tables=Import.objects.filter(cohort=patient.cohort, kind=Import.Kind.CLINICAL).exclude(key="").count(),
    )


def withdraw_patient(user: Any, patient: Patient, why: str) -> Withdrawal:
    """Takes a patient out of the house, for good. Needs manager; the reason is kept.

    Work on her that waits is cancelled. Errors: NotVisible, RoleMissing, BAD_REQUEST (`where` is "why"), CONFLICT (409) while work on her,
    or a training with her, is running: it is asked to stop.
    """
    require(user, patient.cohort, Role.MANAGER)
    why = " ".join(why.split())
    if not 1 <= len(why) <= MAX_WHY:
        sentence = f"A reason has at most {MAX_WHY} characters." if why else "A withdrawal needs a reason."
        raise TissueboardError(Code.BAD_REQUEST, sentence, "Say in a sentence why she is withdrawn.", where="why")
    _stop_work(user, patient)
    with transaction.atomic():
        locked = Patient.objects.select_for_update().filter(pk=patient.pk).first()
        if locked is None:
            raise NotVisible("case")
        if _under_way(locked).filter(state__in=ACTIVE).exists():
            raise _busy(locked)
        keys, rows = _files(locked), _received(locked)
        keys |= {key for key in rows.values_list("key", flat=True) if key} | forget(locked)
        searched = set(Prediction.objects.filter(patient=locked, kind=Prediction.Kind.NICHE_SET).values_list("version_id", flat=True))
        told = {"slides": Slide.objects.filter(sample__patient=locked).count(), "models": sorted(_saw(locked))}
        folders = [f"slides/{pk}" for pk in Slide.objects.filter(sample__patient=locked).values_list("pk", flat=True)]
        folders += [key.replace("slides/", "assays/labels/") for key in folders]
        folders += [f"assays/{pk}" for pk in MultiplexImage.objects.filter(sample__patient=locked).values_list("pk", flat=True)]
        cohort, code = locked.cohort, locked.code
        made = Withdrawal.objects.create(cohort=cohort, code=code, why=why, withdrawn_by=user, facts=told)
        record(user, "withdraw patient", locked, cohort_id=cohort.pk, patient_code=code)
        JobOutput.objects.filter(key__in=keys).delete()
        rows.delete()
        locked.delete()
        rebuild_without(ModelVersion.objects.filter(pk__in=searched))
        # Files go when it is certain that nothing points to them; one that another row has too (the same bytes elsewhere) stays.
        transaction.on_commit(lambda: _delete_files(keys, folders))
    return made


def _saw(patient: Patient) -> set[int]:
    return set(Member.objects.filter(patient_hash=hash_of(patient)).values_list("version_id", flat=True))


def _under_way(patient: Patient) -> Any:
    """Jobs that wait or run and are about her, or about her whole cohort."""
    slides = list(Slide.objects.filter(sample__patient=patient).values_list("pk", flat=True))
    images = list(MultiplexImage.objects.filter(sample__patient=patient).values_list("pk", flat=True))
    about = Q(params__patient=patient.pk) | Q(params__slide__in=slides) | Q(params__image__in=images)
    whole = Q(params__has_key="cohorts") | Q(params__has_key="cohort")
    return Job.objects.filter(about | whole, cohorts=patient.cohort, state__in=(*WAITING, *ACTIVE)).distinct()


def _stop_work(user: Any, patient: Patient) -> None:
    """Cancels what waits and is about her alone; asks what runs to stop, and says so."""
    note = f"withdrawal of the patient by {user.get_username()}"
    own = _under_way(patient).exclude(Q(params__has_key="cohorts") | Q(params__has_key="cohort"))
    for job in own.filter(state__in=WAITING):
        advance(job.pk, job.state, State.CANCELLED, job.attempt, note=note)
    running = _under_way(patient).filter(state__in=ACTIVE)
    Job.objects.filter(pk__in=own.filter(state__in=ACTIVE).values("pk")).update(cancel_requested=True)
    if running.exists():
        raise _busy(patient)


def _busy(patient: Patient) -> TissueboardError:
    sentence = f"Work on {patient.code}, or a training with her, is running."
    return TissueboardError(
        Code.CONFLICT, sentence, "Work on her was asked to stop; cancel a training, and ask again in a minute.", status=409
    )


def _received(patient: Patient) -> Any:
    """The reports of how her slides and images came in: their file names may identify her."""
    sealed = list(Slide.objects.filter(sample__patient=patient).values_list("sealed_sha256", flat=True))
    sealed += list(MultiplexImage.objects.filter(sample__patient=patient).values_list("sealed_sha256", flat=True))
    return Import.objects.filter(cohort=patient.cohort, sha256__in=[sha for sha in sealed if sha]).exclude(kind=Import.Kind.CLINICAL)


def _files(patient: Patient) -> set[str]:
    """Keys in the store of everything that would be deleted with her, whatever app it belongs to."""
    collector = Collector(using=patient._state.db or "default")
    collector.collect([patient])
    rows: list[Any] = [row for found in collector.data.values() for row in found]
    fast = [queryset for queryset in collector.fast_deletes if key_fields(queryset.model)]
    return {key for row in [*rows, *(row for queryset in fast for row in queryset)] for key in _keys_of(row)}


def key_fields(model: type[models.Model]) -> list[str]:
    """The columns of a model that name files in the store: `key` and those that end in `_key`."""
    named = (f.name for f in model._meta.fields if isinstance(f, models.CharField))
    return [name for name in named if name == "key" or (name.endswith("_key") and name not in ("input_key", "idempotency_key"))]


def _keys_of(row: models.Model) -> Iterator[str]:
    return (value for name in key_fields(type(row)) if (value := getattr(row, name)))


def _delete_files(keys: set[str], folders: list[str]) -> None:
    kept = set()
    for model in (Slide, MultiplexImage, Prediction):
        for name in key_fields(model):
            kept |= set(model._default_manager.filter(**{f"{name}__in": keys}).values_list(name, flat=True))
    for key in sorted(keys - kept):
        if store.exists(key):
            store.delete(key)
    for folder in folders:
        if store.exists(folder) and not any(key.startswith(f"{folder}/") for key in kept):
            store.delete(folder)
