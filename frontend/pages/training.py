"""Training from a cohort's page: what can be trained, the form of one training, what was trained here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort
from tissueboard.cohorts.selectors import cohorts_for, get_cohort
from tissueboard.errors import NotVisible, TissueboardError
from tissueboard.jobs.models import ACTIVE, WAITING
from tissueboard.model_registry.selectors import versions_for
from tissueboard.pipelines import training as service
from tissueboard.pipelines import training_data as data
from tissueboard.pipelines.errors import ConfigInvalid
from tissueboard.pipelines.training_checks import Chosen, Ground, check_settings, counted, ground_of, suggestions
from tissueboard.pipelines.training_config import validated
from tissueboard.pipelines.training_kinds import Training, presets, schema_of, training_named

from .access import signed_in, whole_number
from .cohorts import frame
from .config_form import PREFIX, Setting, settings, typed, values_of
from .jobs import duration
from .model_figures import headline

LIVE = (*WAITING, *ACTIVE)


@signed_in
@require_safe
def cohort_train(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """What can be trained on a cohort, what it has for it, and what was trained on it already."""
    cohort = get_cohort(request.user, cohort_id)
    require(request.user, cohort, Role.CONTRIBUTOR)
    going = service.open_trainings(request.user, cohort)
    context = {
        **frame(request, cohort, "train"),
        "versions": [(version, headline(version.metrics)) for version in service.trained_here(request.user, cohort)],
        "going": going,
        "live": any(job.state in LIVE for job in going),
    }
    if request.htmx:
        return render(request, "parts/trained_rows.html", context)
    return render(request, "pages/cohort_train.html", {**context, "offers": service.offers(request.user, cohort)})


@dataclass
class Form:
    """One training's form: what was chosen and typed, on what ground, and what is wrong. recipe: the preset that filled the settings in."""

    training: Training
    cohorts: list[Cohort]
    chosen: Chosen
    ground: Ground
    name: str
    recipe: str
    texts: dict[str, Any]
    refused: TissueboardError | None = None
    errors: dict[str, str] = field(default_factory=dict)


@signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def cohort_train_new(request: HttpRequest, cohort_id: int, what: str) -> HttpResponse:
    """GET: the form. POST starts the training; with action=look it only counts again, with action=recipe a recipe fills the settings in."""
    cohort = get_cohort(request.user, cohort_id)
    require(request.user, cohort, Role.CONTRIBUTOR)
    form = _form(request, cohort, training_named(what))
    starts = request.method == "POST" and request.POST.get("action") not in ("look", "recipe")
    if starts and form.refused is None:
        try:
            return _start(request, form)
        except TissueboardError as error:
            if error.status == 403:
                raise
            form.refused = error
    started = form.refused
    if started is None:
        form.refused = _would_be_refused(request.user, form)
    _place_errors(form)
    context = {**frame(request, cohort, "train"), **_form_context(request, cohort, form), "tried": starts}
    status = started.status if starts and started is not None else 200
    return render(request, "parts/train_form.html" if request.htmx else "pages/cohort_train_new.html", context, status=status)


def _form(request: HttpRequest, cohort: Cohort, training: Training) -> Form:
    """What the request says; what it does not say takes the default of the cohort and the recipe."""
    sent = request.POST if request.method == "POST" else request.GET
    others = {whole_number(value) for value in sent.getlist("cohorts")} - {None, cohort.pk}
    more = list(cohorts_for(request.user, Role.CONTRIBUTOR).filter(pk__in=others)) if training.several else []
    if len(more) < len(others):
        raise NotVisible("cohort")
    cohorts = sorted([cohort, *more], key=lambda one: one.pk)
    default = service.default_choice(request.user, training, cohorts)
    known = presets(training)
    recipe = next((one for one in known if one.name == sent.get("recipe")), known[0])
    chosen, refused = default, None
    asked = {key: sent[key] for key in training.chooses if key in sent}
    try:
        given = {key: value if key == "endpoint" else whole_number(value, 0) for key, value in asked.items() if value}
        found = service.choose(request.user, training, given)
        keep = {
            "version": default.version,
            "encoder": None,
            "endpoint": default.endpoint,
            "model": default.model,
            "start": None,
            "bank": None,
        }
        chosen = Chosen(**{key: getattr(found, key) if key in asked else keep[key] for key in keep})
    except TissueboardError as error:
        refused = error
    ground = ground_of(training, cohorts, chosen)
    form = Form(training, cohorts, chosen, ground, sent.get("name", "").strip(), recipe.name, {}, refused)
    markers = _choices(ground)
    if request.method == "POST":
        form.texts = typed(sent, schema_of(training), markers)
    if request.method != "POST" or sent.get("action") == "recipe":
        # The choice of markers is no part of a recipe and stays as it was.
        form.texts = {**recipe.values, **{name: form.texts[name] for name in markers if name in form.texts}}
    return form


def _choices(ground: Ground) -> dict[str, tuple[str, ...]]:
    """What the setting `markers` is chosen among: what this ground has."""
    return {"markers": ground.markers} if ground.markers else {}


def _start(request: HttpRequest, form: Form) -> HttpResponse:
    schema, training = schema_of(form.training), form.training
    values = values_of(form.texts, schema)
    if "markers" in values and set(values["markers"]) == set(form.ground.markers):
        del values["markers"]  # all of them: what the data decide
    choices: dict[str, Any] = {"endpoint": form.chosen.endpoint} if "endpoint" in training.chooses else {}
    choices |= {key: version.pk for key in service.FAMILY_OF if (version := getattr(form.chosen, key)) is not None}
    job = service.start_training(request.user, training.name, cohorts=form.cohorts, name=form.name, values=values, choices=choices)
    messages.success(request, f"The training of {form.name} is asked for. It goes on by itself; this page follows it.")
    return redirect("job", job_id=job.pk)


def _would_be_refused(user: Any, form: Form) -> TissueboardError | None:
    """What stands in the way of the form as it is shown, said before anybody presses the button; the name is left for then."""
    if form.ground.refusal is not None:
        return form.ground.refusal
    try:
        config = validated(form.training, values_of(form.texts, schema_of(form.training)), form.ground.decided)
        check_settings(form.training, form.cohorts, form.chosen, form.ground, config, user)
    except TissueboardError as error:
        return error
    return None


def _place_errors(form: Form) -> None:
    """Each refusal beside its field; what belongs to none stands above the form."""
    if isinstance(form.refused, ConfigInvalid):
        form.errors = dict(form.refused.fields)
    elif form.refused is not None and form.refused.where:
        form.errors = {form.refused.where: f"{form.refused.sentence} {form.refused.hint}".strip()}


def _form_context(request: HttpRequest, cohort: Cohort, form: Form) -> dict[str, Any]:
    training, user, ground = form.training, request.user, form.ground
    schema = schema_of(training)
    choices = _choices(ground)
    fields = [one for one in settings(schema, form.texts, form.errors, choices) if one.name != "markers" or choices]
    usual, more = _parted(training, fields)
    beside = {one.name for one in fields} | {"", "name", "cohorts", *training.chooses}
    takes = training.chooses
    versions = data.versions_with_maps(user, form.cohorts) if "version" in takes else []
    encoders = data.encoders_with_bags(user, cohort) if "encoder" in takes else []
    others = cohorts_for(user, Role.CONTRIBUTOR).exclude(pk=cohort.pk).order_by("name") if training.several else ()
    return {
        "training": training,
        "form": form,
        "ground": ground,
        "recipes": presets(training),
        "usual": usual,
        "suggested": {f"{PREFIX}{name}": names for name, names in suggestions(user, training).items()},
        "more": more,
        "more_wrong": any(one.error for one in more),
        "above": "" if form.refused is None or set(form.errors) & beside else f"{form.refused.sentence} {form.refused.hint}".strip(),
        "n_wrong": len(form.errors),
        "max_name": service.MAX_NAME,
        "versions": [(one, counted(n, "patient")) for one, n in versions],
        "encoders": [(one, counted(n, "patient")) for one, n in encoders],
        "models": service.models_for(user, training) if {"model", "start"} & set(takes) else [],
        "banks": list(versions_for(user).filter(family="virtues").order_by("-created_at", "-pk")) if "bank" in takes else [],
        "endpoints": data.endpoints_of(cohort) if "endpoint" in takes else [],
        "others": list(others),
        **_size(form, schema),
    }


def _parted(training: Training, fields: list[Setting]) -> tuple[list[Setting], list[Setting]]:
    """The usual settings in their declared order, and all others in the schema's; the first six are usual where none is declared."""
    names = [name for name in training.usual if any(one.name == name for one in fields)] or [one.name for one in fields[:6]]
    by_name = {one.name: one for one in fields}
    return [by_name[name] for name in names], [one for one in fields if one.name not in names]


def _size(form: Form, schema: dict[str, Any]) -> dict[str, Any]:
    """How much the training is with the settings that the form shows; nothing where they are not valid."""
    training, ground = form.training, form.ground
    if ground.refusal is not None:
        return {"size": None}
    try:
        config = validated(training, values_of(form.texts, schema), ground.decided)
    except ConfigInvalid:
        return {"size": None}
    size = service.size_of(training, ground, config)
    return {
        "size": size,
        "takes": duration(size.seconds) if size.seconds is not None else "",
        "most": duration(size.most_seconds) if size.most_seconds is not None else "",
    }
