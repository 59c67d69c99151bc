"""Trains a family on the cohorts of a person: checks everything that can be checked now, then asks for one job."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.db.models import Q

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import Code, TissueboardError
from tissueboard.jobs.models import ACTIVE, UNDONE, WAITING, Job
from tissueboard.jobs.selectors import expected_seconds
from tissueboard.jobs.services import enqueue, idempotency_key
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.selectors import versions_for

from . import training_data as data
from .errors import TrainingRefused
from .training_checks import Chosen, Ground, check_settings, ground_of
from .training_config import validated
from .training_kinds import TRAININGS, Training, training_named, trainings

MAX_NAME = 80
# By choice: the family that it names a version of; "" = the training's own.
FAMILY_OF = {"version": "hex", "encoder": "encoder", "model": "", "start": "", "bank": "virtues"}


@dataclass(frozen=True)
class Size:
    """How much a training is. tiles, steps: None where unknown. seconds: median of the last ones of this kind. most_seconds: its limit."""

    patients: int
    events: int | None
    tiles: int | None
    steps: int | None
    seconds: float | None
    most_seconds: float | None


@dataclass(frozen=True)
class Planned:
    """A training that may start as it is: its job's parameters and its size."""

    training: Training
    cohorts: list[Cohort]
    params: dict[str, Any]
    size: Size


def plan_training(
    user: Any, what: str, *, cohorts: Sequence[Cohort], name: str, values: Mapping[str, Any], choices: Mapping[str, Any] | None = None
) -> Planned:
    """Everything that `start_training` checks, without starting anything. Same errors."""
    training = training_named(what)
    cohorts = sorted(set(cohorts), key=lambda one: one.pk)
    for cohort in cohorts:
        require(user, cohort, Role.CONTRIBUTOR)
    _check_cohorts(training, cohorts)
    chosen = choose(user, training, choices or {})
    ground = ground_of(training, cohorts, chosen)
    config = validated(training, values, ground.decided)
    name = _checked_name(name)
    if ground.refusal is not None:
        raise ground.refusal
    check_settings(training, cohorts, chosen, ground, config, user)
    params = _params(training, cohorts, chosen, name, _kept(training, config, values))
    _refuse_taken(training, name, params)
    return Planned(training, cohorts, params, size_of(training, ground, config))


def start_training(
    user: Any, what: str, *, cohorts: Sequence[Cohort], name: str, values: Mapping[str, Any], choices: Mapping[str, Any] | None = None
) -> Job:
    """Asks for the training of a version named `name`; asking twice for the same finds the first. Needs contributor in every cohort.

    what: a name in training_kinds. values: settings of the family's config, checked by it; what is left out takes its default.
    choices: {"version": id, "encoder": id, "endpoint": name, "model": id, "start": id, "bank": id}, as far as the training takes them.
    Errors: NotVisible, RoleMissing, UnknownTraining, CONFIG_INVALID (every setting that does not fit), NAME_TAKEN, VERSION_UNKNOWN,
    ENDPOINT_UNKNOWN, NO_MAP, FEATURES_MISSING, PANELS_DIFFER, MARKERS_LOCKED, TOO_FEW_PATIENTS, TOO_FEW_EVENTS, TOO_FEW_EVENT_TIMES,
    BAD_REQUEST.
    """
    return begin(user, plan_training(user, what, cohorts=cohorts, name=name, values=values, choices=choices))


def begin(user: Any, planned: Planned) -> Job:
    """Asks for the job of a training that was just planned."""
    training, params = planned.training, planned.params
    with transaction.atomic():
        # Two people who ask for the same name at the same time meet here; the second one is told now, not after hours.
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"training {training.family} {params['name']}"])
        _refuse_taken(training, params["name"], params)
        job = enqueue(user, training.kind, params, cohorts=planned.cohorts)
        for cohort in planned.cohorts:
            record(user, f"train {training.name}", job, cohort_id=cohort.pk)
    return job


def choose(user: Any, training: Training, choices: Mapping[str, Any]) -> Chosen:
    """What was named beside the settings. BAD_REQUEST for what this training does not take, VERSION_UNKNOWN."""
    given = {key: value for key, value in choices.items() if value not in (None, "")}
    extra = next((key for key in given if key not in training.chooses), None)
    if extra is not None:
        takes = f"It takes {', '.join(training.chooses)}." if training.chooses else "Leave it out."
        raise TissueboardError(Code.BAD_REQUEST, f"The training {training.name} takes no {extra}.", takes, where=extra)
    found: dict[str, ModelVersion] = {}
    for key, family in FAMILY_OF.items():
        if key in given:
            found[key] = _version(user, key, given[key], family or training.family)
    return Chosen(**found, endpoint=str(given.get("endpoint", "")))


def _version(user: Any, key: str, value: Any, family: str) -> ModelVersion:
    known = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63
    version = versions_for(user).filter(pk=value, family=family).first() if known else None
    if version is None:
        said = f"There is no version {str(value)[:40]} of the family {family} that you may use."
        raise TissueboardError("VERSION_UNKNOWN", said, "Take the id of a version from the page Models.", where=key)
    return version


def _check_cohorts(training: Training, cohorts: Sequence[Cohort]) -> None:
    if not cohorts:
        raise TissueboardError(Code.BAD_REQUEST, "No cohort is named.", "Name the cohort to train on.", where="cohorts")
    if len(cohorts) > 1 and not training.several:
        said = f"{training.title} is trained on one cohort, and {len(cohorts)} are named."
        raise TissueboardError(Code.BAD_REQUEST, said, "Train each cohort by itself.", where="cohorts")


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME:
        said = f"A version needs a name of 1 to {MAX_NAME} characters."
        raise TissueboardError(Code.BAD_REQUEST, said, "Give a shorter name." if name else "Give it a name.", where="name")
    return name


def _kept(training: Training, config: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """All settings as they were checked, so that a default that changes later changes nothing; but what the data decide only if given."""
    left = {*training.decided, "markers"} - values.keys()
    return {key: value for key, value in config.model_dump(mode="json").items() if key not in left}


def _params(training: Training, cohorts: Sequence[Cohort], chosen: Chosen, name: str, config: dict[str, Any]) -> dict[str, Any]:
    params: dict[str, Any] = {"cohorts": [c.pk for c in cohorts]} if training.several else {"cohort": cohorts[0].pk}
    if chosen.version is not None:
        params["version"] = chosen.version.pk
    if chosen.model is not None:
        params["version"] = chosen.model.pk
    for key in ("encoder", "start", "bank"):
        version = getattr(chosen, key)
        if version is not None:
            params[key] = version.pk
    if "endpoint" in training.chooses:
        params["endpoint"] = chosen.endpoint
    return {**params, "name": name, "config": config}


def _refuse_taken(training: Training, name: str, params: dict[str, Any]) -> None:
    """NAME_TAKEN where a version has the name, or another training under way will give it."""
    said = ""
    if ModelVersion.objects.filter(family=training.family, name=name).exists():
        said = f"There is a {training.family} version named {name} already."
    else:
        same = idempotency_key(training.kind, params)
        others = Job.objects.filter(kind=training.kind, params__name=name, state__in=(*WAITING, *ACTIVE)).exclude(idempotency_key=same)
        if others.exists():
            said = f"A training under way will give a {training.family} version named {name}."
    if said:
        raise TrainingRefused("NAME_TAKEN", said, "Train under another name.", where="name")


def size_of(training: Training, ground: Ground, config: Any) -> Size:
    """How much a training with these settings is, as far as it is known before it starts."""
    tiles, steps = ground.tiles(), None
    folds, batch, epochs = (getattr(config, name, None) for name in ("folds", "batch", "epochs"))
    if tiles and folds and batch and epochs:
        steps = folds * math.ceil(epochs * tiles * (folds - 1) / folds / batch)
    limit = getattr(config, "max_seconds", None)
    most = limit * (folds or 1) if limit else None
    return Size(ground.patients, ground.events, tiles, steps, expected_seconds(training.kind), most)


@dataclass(frozen=True)
class Offer:
    """A training as a cohort's page offers it. default: what the form would take first."""

    training: Training
    ground: Ground
    default: Chosen


def offers(user: Any, cohort: Cohort) -> list[Offer]:
    """What can be trained on a cohort, with what it has for each. Needs contributor."""
    require(user, cohort, Role.CONTRIBUTOR)
    found = []
    for training in trainings():
        default = default_choice(user, training, [cohort])
        found.append(Offer(training, ground_of(training, [cohort], default), default))
    return found


def default_choice(user: Any, training: Training, cohorts: Sequence[Cohort]) -> Chosen:
    """The protein model with maps here (the one in use first), the endpoint of most patients, the newest model to measure."""
    version, endpoint = None, ""
    if "version" in training.chooses:
        versions = data.versions_with_maps(user, cohorts)
        version = next((one for one, n in versions if n), versions[0][0] if versions else None)
    if "endpoint" in training.chooses:
        endpoint = next((name for name, _, _ in data.endpoints_of(cohorts[0])), "")
    model = next(iter(models_for(user, training)), None) if "model" in training.chooses else None
    return Chosen(version, endpoint=endpoint, model=model)


def models_for(user: Any, training: Training) -> list[ModelVersion]:
    """Versions of a training's family that can be measured, taken into use or gone on from, newest first."""
    found = versions_for(user).filter(family=training.family).order_by("-created_at", "-pk")
    # A VirTues of virtual maps has no use for images.
    return [one for one in found if not one.config.get("maps")]


def trained_here(user: Any, cohort: Cohort) -> list[ModelVersion]:
    """Versions that were trained on the cohort and that the user may see, newest first.

    Those of simulated cohorts stand on no cohort (simulated tissue is nobody's data); their provenance names the job that made them.
    """
    jobs = Job.objects.visible_to(user).filter(cohorts=cohort, kind__in=kinds()).values_list("pk", flat=True)
    mine = Q(cohorts=cohort) | Q(provenance__facts__job__in=list(jobs))
    return list(versions_for(user).filter(mine).distinct().order_by("-created_at", "-pk"))


def open_trainings(user: Any, cohort: Cohort, ended: int = 5) -> list[Job]:
    """Trainings of the cohort that wait or run, and the last few that ended without a version, newest first."""
    jobs = Job.objects.visible_to(user).filter(cohorts=cohort, kind__in=kinds()).order_by("-pk")
    going = list(jobs.filter(state__in=(*WAITING, *ACTIVE)))
    return sorted(going + list(jobs.filter(state__in=UNDONE)[:ended]), key=lambda job: -job.pk)


def kinds() -> list[str]:
    """Job kinds of all declared trainings."""
    return [one.kind for one in TRAININGS.values()]
