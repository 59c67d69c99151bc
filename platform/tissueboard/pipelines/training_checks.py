"""Whether a training can be made of what a cohort has: every cheap refusal comes before the queue, not after hours of work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.hex_evaluate import LEAST_PATIENTS as LEAST_MEASURED
from tissueboard.predictions.hex_fit import LEAST_PATIENTS
from tissueboard.predictions.maps import card
from tissueboard.predictions.risk_jobs import RISK_MARKERS

from . import training_data as data
from .errors import ConfigInvalid, TrainingRefused
from .training_kinds import Training

LEAST_EVENT_TIMES = 4
LEAST_RISK_MARKERS = 2


@dataclass(frozen=True)
class Chosen:
    """What a person named beside the settings."""

    version: ModelVersion | None = None
    encoder: ModelVersion | None = None
    endpoint: str = ""
    model: ModelVersion | None = None
    start: ModelVersion | None = None
    bank: ModelVersion | None = None


@dataclass(frozen=True)
class Ground:
    """What a training would stand on. words: counted, for people. markers: what can be chosen among. tiles, events: None where unknown."""

    words: str
    patients: int
    refusal: TissueboardError | None = None
    markers: tuple[str, ...] = ()
    decided: dict[str, Any] | None = None
    events: int | None = None
    tiles: Callable[[], int | None] = lambda: None


def ground_of(training: Training, cohorts: Sequence[Cohort], chosen: Chosen) -> Ground:
    """What the cohorts have for a training, with the refusal where it is not enough whatever the settings are."""
    from . import training_virtues as virtues

    grounds = {"hex": _hex, "measure": _measure, "niche": _niche, "risk": _risk, "mica": _mica, **virtues.GROUNDS}
    return grounds[training.name](cohorts, chosen)


def check_settings(training: Training, cohorts: Sequence[Cohort], chosen: Chosen, ground: Ground, config: Any, user: Any) -> None:
    """Refuses settings that do not fit the cohort's data. ConfigInvalid or TrainingRefused."""
    if training.name == "hex":
        _check_hex(ground, config, user, chosen.start)
    elif training.name in ("risk", "mica"):
        _check_outcome(training, cohorts[0], chosen, ground, config, user)
    elif training.family == "virtues":
        from . import training_virtues as virtues

        virtues.check(training, cohorts, chosen, config)


def _hex(cohorts: Sequence[Cohort], chosen: Chosen) -> Ground:
    found = data.measured(cohorts)
    words = f"{counted(found.patients, 'patient')} with measured proteins on a ready slide"
    refusal = None
    if found.patients < LEAST_PATIENTS:
        said = f"{found.patients} patients have a ready slide with a measured panel; training takes {LEAST_PATIENTS}."
        refusal = TrainingRefused("TOO_FEW_PATIENTS", said, "Import more slides with assays.", where="cohorts")
    elif found.panels > 1:
        said = f"The assays differ in their panels or tile sizes: there are {found.panels} kinds."
        refusal = TrainingRefused("PANELS_DIFFER", said, "Train on cohorts whose assays have one panel and size.", where="cohorts")
    else:
        words += f", {counted(len(found.markers), 'marker')}"
    decided = {"markers": found.markers, "tile_um": found.tile_um} if refusal is None else None
    return Ground(words, found.patients, refusal, found.markers, decided, tiles=found.tiles)


def _measure(cohorts: Sequence[Cohort], chosen: Chosen) -> Ground:
    found = data.measured(cohorts)
    words = f"{counted(found.patients, 'patient')} with measured proteins on a ready slide"
    refusal = None
    if chosen.model is None:
        refusal = TrainingRefused("VERSION_UNKNOWN", "No protein model is named.", "Choose the one to measure.", where="model")
    elif found.patients < LEAST_MEASURED:
        said = f"{counted(found.patients, 'patient')} with measured proteins on a ready slide; this takes {LEAST_MEASURED}."
        refusal = TrainingRefused("TOO_FEW_PATIENTS", said, "Import more slides with measured proteins.", where="cohorts")
    elif not set(found.markers) & set(chosen.model.panel):
        said = f"None of the {len(found.markers)} measured markers is predicted by {chosen.model}."
        refusal = TrainingRefused("PANELS_DIFFER", said, "Choose a model of this panel.", where="model")
    return Ground(words, found.patients, refusal, tiles=found.tiles)


def _niche(cohorts: Sequence[Cohort], chosen: Chosen) -> Ground:
    if chosen.version is None:
        return Ground("No protein model yet", 0, _no_version())
    slides = data.bags_of(chosen.version, cohorts)
    refusal = None if slides else _no_map(cohorts, chosen.version)
    return Ground(f"{counted(slides, 'slide')} with maps of {chosen.version}", slides, refusal)


def _risk(cohorts: Sequence[Cohort], chosen: Chosen) -> Ground:
    ground = _outcome_ground(cohorts, chosen)
    if ground.refusal is not None or chosen.version is None:
        return ground
    told = card(chosen.version)
    markers = tuple(name for name in RISK_MARKERS if name in told and not told[name]["locked"])
    if len(markers) < LEAST_RISK_MARKERS:
        said = f"{chosen.version} predicts {len(markers)} of the markers {', '.join(RISK_MARKERS)} well enough; a risk takes two."
        refusal = TrainingRefused("MARKERS_LOCKED", said, "Train the protein model on more patients.", where="version")
        return Ground(ground.words, ground.patients, refusal, events=ground.events)
    return Ground(ground.words, ground.patients, None, markers, events=ground.events)


def _mica(cohorts: Sequence[Cohort], chosen: Chosen) -> Ground:
    return _outcome_ground(cohorts, chosen)


def _outcome_ground(cohorts: Sequence[Cohort], chosen: Chosen) -> Ground:
    """Patients of the one cohort with a map and the outcome."""
    (cohort,) = cohorts
    if chosen.version is None:
        return Ground("No protein model yet", 0, _no_version())
    known = [name for name, _, _ in data.endpoints_of(cohort)]
    if chosen.endpoint not in known:
        said = f"The cohort {cohort.name} has no endpoint {chosen.endpoint[:40]}." if chosen.endpoint else "No endpoint is named."
        hint = f"It has {', '.join(known)}." if known else "It has none; add a clinical table with outcomes first."
        return Ground("No outcome yet" if not known else said, 0, TrainingRefused("ENDPOINT_UNKNOWN", said, hint, where="endpoint"))
    found = data.with_outcome(cohort, chosen.version, chosen.endpoint)
    words = f"{counted(found.patients, 'patient')} with a map of {chosen.version} and {chosen.endpoint}, {counted(found.events, 'event')}"
    if not data.has_map(chosen.version, cohorts):
        return Ground(words, 0, _no_map(cohorts, chosen.version), events=0)
    return Ground(words + found.why_fewer, found.patients, events=found.events)


def _check_hex(ground: Ground, config: Any, user: Any, start: ModelVersion | None = None) -> None:
    wrong = []
    if start is not None and start.config.get("encoder") != config.encoder:
        wrong.append(("encoder", f"encoder is “{config.encoder}”; {start}, from which to start, has {start.config.get('encoder')}."))
    absent = [name for name in config.markers if name not in ground.markers]
    if absent:
        said = f"markers holds {', '.join(absent[:5])}, which was not measured here; it takes some of {', '.join(ground.markers)}."
        wrong.append(("markers", said))
    tile_um = (ground.decided or {}).get("tile_um")
    if config.tile_um != tile_um:
        wrong.append(("tile_um", f"tile_um is {config.tile_um:g}; the assays decide it, and theirs is {tile_um:g}."))
    if config.folds > ground.patients:
        wrong.append(("folds", f"folds is {config.folds}; {ground.patients} patients make at most as many folds."))
    told = why_no_encoder(user, config.encoder)
    if told:
        wrong.append(("encoder", f"encoder is “{config.encoder}”. {told}"))
    if wrong:
        raise ConfigInvalid(wrong)


def why_no_encoder(user: Any, name: str) -> str:
    """Why an encoder cannot be trained with a head here, in a sentence; "" where it can. One that needs weights must be in use."""
    from ml.encoders import EncoderError, encoder
    from tissueboard.model_registry.encoder_catalogue import catalogue

    try:
        spec = encoder(name)
    except EncoderError as error:
        return f"{error.sentence} {error.hint}".strip()
    if not spec.needs_weights:
        return ""
    row = next((row for row in catalogue(user) if row.spec.name == spec.name), None)
    if row is not None and row.version is not None:
        return ""
    return row.sentence if row is not None and row.sentence else "It needs weights, and no version of it is in use here."


def suggestions(user: Any, training: Training) -> dict[str, list[str]]:
    """{setting: values that would be taken here} where the schema leaves open what those are."""
    from tissueboard.model_registry.encoder_catalogue import READY, WITH_HEAD, catalogue

    if training.name != "hex":
        return {}
    usable = [row.spec.name for row in catalogue(user) if row.state in (READY, WITH_HEAD) or not row.spec.needs_weights]
    return {"encoder": usable}


def _why_no_map_encoder(user: Any, config: Any) -> str:
    """Why the encoder of a marker's map cannot be used; "" where none of the catalogue is asked for."""
    from ml.encoders import CATALOGUE

    name = getattr(config, "codex_encoder", "")
    return why_no_encoder(user, name) if name in CATALOGUE and config.modality != "he" else ""


def _check_outcome(training: Training, cohort: Cohort, chosen: Chosen, ground: Ground, config: Any, user: Any) -> None:
    """Patients, events and times that the settings ask for."""
    version, modality = chosen.version, getattr(config, "modality", "both")
    assert version is not None
    told = _why_no_map_encoder(user, config)
    if told:
        raise ConfigInvalid([("codex_encoder", f"codex_encoder is “{config.codex_encoder}”. {told}")])
    bags = None if training.name == "risk" or modality == "codex" else (chosen.encoder or version)
    found = data.with_outcome(cohort, version, chosen.endpoint, bags)
    bare = found.left_out[data.NO_FEATURES]
    if bare:
        said = f"{counted(bare, 'patient')} with a map and {chosen.endpoint} have no features of {bags} on the same slide."
        raise TrainingRefused("FEATURES_MISSING", said, "Make these features with a run over the cohort first.", where="encoder")
    markers = getattr(config, "markers", ())
    absent = [name for name in markers if name not in ground.markers] if training.name == "risk" else []
    if absent:
        allowed = ", ".join(ground.markers)
        raise ConfigInvalid([("markers", f"markers holds {', '.join(absent[:5])}; it takes some of {allowed}, or none for all of them.")])
    folds = config.folds if training.name == "mica" else 2
    if found.patients < max(folds, 2):
        said = f"{counted(found.patients, 'patient')} can be fitted on; {folds} folds take at least as many{found.why_fewer}."
        raise TrainingRefused("TOO_FEW_PATIENTS", said, "Make the maps of more patients, or ask for fewer folds.", where="version")
    least = getattr(config, "min_events", LEAST_EVENT_TIMES)
    if found.events < least:
        said = f"There are {counted(found.events, 'event')} of {chosen.endpoint} among {counted(found.patients, 'patient')}"
        raise TrainingRefused(
            "TOO_FEW_EVENTS", f"{said}{found.why_fewer}; training takes {least}.", "Wait for longer follow-up, or take another endpoint.",
            where="endpoint",
        )  # fmt: skip
    least = max(LEAST_EVENT_TIMES, getattr(config, "bins", 0))
    if found.event_times < least:
        said = f"The {found.events} events happened at {counted(found.event_times, 'distinct time')}; training takes {least}."
        raise TrainingRefused("TOO_FEW_EVENT_TIMES", said, "Give the times of the events in days, not in years.", where="endpoint")
    horizon = getattr(config, "horizon_days", 0.0)
    if found.last_day < horizon:
        said = f"horizon_days is {horizon:g}; nobody was followed longer than {found.last_day:g} days, so it takes at most that."
        raise ConfigInvalid([("horizon_days", said)])


def _no_version() -> TrainingRefused:
    return TrainingRefused(
        "VERSION_UNKNOWN", "No protein model is named.", "Train HEX first, and make its maps with a run.", where="version"
    )


def _no_map(cohorts: Sequence[Cohort], version: ModelVersion) -> TrainingRefused:
    said = f"No patient of {', '.join(c.name for c in cohorts)} has a virtual map of {version}."
    return TrainingRefused("NO_MAP", said, "Start a run of the case pipeline on the cohort first.", where="version")


def counted(n: int, word: str) -> str:
    """ "1 patient", "18 patients"."""
    return f"{n} {word}{'' if n == 1 else 's'}"
