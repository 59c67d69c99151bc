"""Writes of model versions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from tissueboard.accounts.audit import record
from tissueboard.cohorts.models import Cohort, Patient
from tissueboard.errors import TissueboardError
from tissueboard.store import store

from .models import Member, ModelVersion
from .selectors import folds_that_saw

MEMBERSHIP_SALT = "tissueboard-membership-1"


class WeightsMissing(TissueboardError):
    """The weights of a version are not in the store; nothing is computed instead of them."""

    status = 409

    def __init__(self, version: ModelVersion):
        super().__init__(
            "WEIGHTS_MISSING",
            f"The weights of {version} are not in the store (key {version.key}).",
            "Restore them from a backup, or train the version again.",
        )


@dataclass(frozen=True)
class NewVersion:
    """What a finished training hands over: see the fields of ModelVersion. members: fold -> hashes of what it was fitted on."""

    family: str
    name: str
    label: str
    config: dict[str, Any]
    key: str
    sha256: str
    provenance: dict[str, Any]
    licence: str
    metrics: dict[str, Any]
    members: Mapping[int, Iterable[str]]
    pitch_um: float | None = None
    panel: tuple[str, ...] = ()
    pretraining_overlap: str = "no"


def hash_of(patient: Patient) -> str:
    """The patient's id as kept in membership lists (the same code in two cohorts counts as the same person: the safe side)."""
    from ml.training.splits import patient_hash

    return patient_hash(patient.code, MEMBERSHIP_SALT)


@transaction.atomic
def register(
    new: NewVersion,
    *,
    cohorts: Iterable[Cohort],
    parents: Iterable[ModelVersion] = (),
    user: Any = None,
    replaces: Callable[[ModelVersion], bool] = lambda older: True,
    current: bool = True,
) -> ModelVersion:
    """Registers a version with its membership and makes it the current one of its family on exactly these cohorts.

    current: False leaves the current one in its place; this one is taken where somebody chooses it. replaces: which of those that were
    current it takes the place of (encoders of different names stay in use side by side).
    """
    cohorts, parents = list(cohorts), list(parents)
    if ModelVersion.objects.filter(family=new.family, name=new.name).exists():
        raise TissueboardError(
            "NAME_TAKEN", f"There is a {new.family} version named {new.name} already.", "Train under another name.", status=409
        )
    older = ModelVersion.objects.filter(family=new.family, is_current=True)
    ids = {c.pk for c in cohorts}
    for version in older.prefetch_related("cohorts") if current else ():
        if {c.pk for c in version.cohorts.all()} == ids and replaces(version):
            version.is_current = False
            version.save(update_fields=["is_current"])
    version = ModelVersion.objects.create(
        family=new.family,
        name=new.name,
        label=new.label,
        config=new.config,
        key=new.key,
        sha256=new.sha256,
        provenance=new.provenance,
        licence=new.licence,
        metrics=new.metrics,
        pitch_um=new.pitch_um,
        panel=list(new.panel),
        pretraining_overlap=new.pretraining_overlap,
        is_current=current,
    )
    version.cohorts.set(cohorts)
    version.parents.set(parents)
    Member.objects.bulk_create(
        Member(version=version, fold=fold, patient_hash=digest) for fold, digests in new.members.items() for digest in set(digests)
    )
    record(user, "register model", version, cohort_id=cohorts[0].pk if len(cohorts) == 1 else None)
    return version


def weights_path(version: ModelVersion) -> Any:
    """Local folder of the weights; WeightsMissing if it is not there."""
    if not store.exists(version.key):
        raise WeightsMissing(version)
    return store.path(version.key)


@dataclass(frozen=True)
class FoldChoice:
    """Which fold may be used for a patient. fold None: no fold saw her, the mean over folds is used."""

    fold: int | None
    in_sample: bool


def choose_fold(version: ModelVersion, patient: Patient, n_folds: int) -> FoldChoice:
    """The fold that never saw this patient (DESIGNS 9, Membership); in_sample when every fold did."""
    seen = folds_that_saw(version, hash_of(patient))
    if not seen:
        return FoldChoice(None, False)
    free = [fold for fold in range(n_folds) if fold not in seen]
    return FoldChoice(free[0], False) if free else FoldChoice(0, True)
