"""What neighbours' outcomes may claim in a cohort (DESIGNS 9): measured by a job, frozen, and shown on a page only where it was found."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from tissueboard.accounts.audit import record
from tissueboard.cohorts.models import Cohort, Endpoint, Event, EventKind
from tissueboard.errors import TissueboardError
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.jobs.models import Job
from tissueboard.jobs.services import enqueue
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction

from .errors import RetrievalCode
from .models import OutcomeValue
from .ranking import rank
from .references import Reference, references_of_cohort
from .selectors import Candidates, Filters, candidates, read_sets
from .tissues import Tissue, of_kind

KIND = "retrieval.outcome_value"
STAGES = {"I": 1.0, "II": 2.0, "III": 3.0, "IV": 4.0}
SINGLE = "Treatments and outcomes below are single histories, not a prediction."


@dataclass(frozen=True)
class Row:
    """One patient who takes part: her outcome, age and stage, and her tissues' niche sets, the earliest first."""

    endpoint: Endpoint
    age: float
    stage: float
    sets: list[Prediction]


@dataclass(frozen=True)
class NeighbourOutcome:
    """What the page says: a note, and where the rules allow it the curves (outcomes.services.SurvivalResult) of her neighbours and of the
    stage- and treatment-matched patients. value: the measurement behind it, or None."""

    note: str
    value: OutcomeValue | None = None
    curves: Any = None


def request_outcome_value(user: Any, cohort: Cohort, version_id: int, measured: bool, endpoint: str) -> Job:
    """Asks for the measurement in a cohort; asking twice without new outcomes or niche sets finds the first. Needs contributor.

    Errors: NotVisible, RoleMissing, REFERENCE_UNKNOWN (404), NOTHING_TO_LEARN where no patient has what it takes.
    """
    known = {(r.version.pk, r.measured): r for r in references_of_cohort(user, cohort)}
    if (version_id, measured) not in known:
        raise TissueboardError(
            RetrievalCode.REFERENCE_UNKNOWN, "This cohort has no niche set of that version.", "Choose one of its references.", status=404
        )
    rows = _rows(cohort, version_id, measured, endpoint)
    if not rows:
        sentence = f"No patient of {cohort.name} has niches of this version, the outcome {endpoint}, an age and a stage."
        raise TissueboardError(RetrievalCode.NOTHING_TO_LEARN, sentence, "Import outcomes and clinical values first.", where="endpoint")
    params = {"cohort": cohort.pk, "version": version_id, "measured": measured, "endpoint": endpoint}
    return enqueue(user, KIND, params, cohorts=[cohort], key=_state_of(rows))


def _state_of(rows: list[Row]) -> str:
    """Changes with the outcomes, ages, stages and niche sets."""
    told = [(r.endpoint.patient_id, r.endpoint.time_days, r.endpoint.event, r.age, r.stage, [p.sha256 for p in r.sets]) for r in rows]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:32]


def _rows(cohort: Cohort, version_id: int, measured: bool, endpoint: str) -> list[Row]:
    """Patients with an outcome, an age and a stage of I to IV, and a niche set."""
    what = "image" if measured else "slide"
    sets: dict[int, list[Prediction]] = {}
    found = Prediction.objects.filter(of_kind(measured), patient__cohort=cohort, version=version_id, kind=Prediction.Kind.NICHE_SET)
    for one in found.select_related(what).order_by(f"{what}__sample__day", "pk"):
        sets.setdefault(one.patient_id, []).append(one)
    rows = []
    for row in (
        Endpoint.objects.filter(patient__cohort=cohort, patient__in=sets, name=endpoint).select_related("patient").order_by("patient_id")
    ):
        age, stage = row.patient.clinical.get("age"), STAGES.get(str(row.patient.clinical.get("stage")))
        if isinstance(age, int | float) and stage is not None and row.entry_days < row.time_days:
            rows.append(Row(row, float(age), stage, sets[row.patient_id]))
    return rows


def measure(ctx: JobContext) -> Done:
    """Job retrieval.outcome_value. params: cohort, version, measured, endpoint. One row that is never changed again."""
    import numpy as np

    from ml.survival.data import SurvivalDataError
    from ml.survival.neighbour_value import LEAST_NEIGHBOURS, neighbour_value

    cohort = Cohort.objects.get(pk=ctx.params["cohort"])
    version = ModelVersion.objects.get(pk=ctx.params["version"])
    measured, endpoint = ctx.params["measured"], ctx.params["endpoint"]
    rows = _rows(cohort, version.pk, measured, endpoint)
    k = max(LEAST_NEIGHBOURS, cohort.neighbours)
    facts: dict[str, Any] = {"k": k, "n": len(rows), "events": sum(r.endpoint.event for r in rows), "adjusted_for": ["age", "stage"]}
    try:
        near = _neighbours(ctx, version, rows, k + 1)
        found = neighbour_value(
            [r.endpoint.time_days for r in rows],
            [r.endpoint.event for r in rows],
            [r.endpoint.entry_days for r in rows],
            np.array([[r.age, r.stage] for r in rows]),
            near,
            k,
        )
    except SurvivalDataError as error:
        if error.code not in ("too_few", "no_neighbours"):
            raise JobRefused(error.code.upper(), str(error), error.hint) from error
        shown, why = False, str(error)
    else:
        shown = found.shown
        facts |= {
            name: round(float(getattr(found, name)), 6) for name in ("c_base", "c_with", "gain", "gain_lower", "gain_upper", "horizon_days")
        }
        told = f"{found.gain:+.3f} in C, 95% {found.gain_lower:+.3f} to {found.gain_upper:+.3f}"
        why = "" if shown else f"leaving each patient out, the neighbours' curve gains nothing sure over age and stage ({told})."
    facts["why"] = why

    def publish() -> None:
        OutcomeValue.objects.create(
            cohort=cohort, version=version, measured=measured, endpoint=endpoint, shown=shown, facts=facts, job_id=ctx.job_id,
            code_version=ctx.code_version,
        )  # fmt: skip

    return Done([OutputSpec("outcome value", "", {"shown": shown, **facts})], publish)


def _neighbours(ctx: JobContext, version: ModelVersion, rows: list[Row], k: int) -> list[list[int]]:
    """For each patient the rows of the k nearest others, by her earliest tissue and their nearest one."""
    everybody = [(p, i) for i, row in enumerate(rows) for p in row.sets]
    near: list[list[int]] = []
    for i, row in enumerate(rows):
        ctx.progress(0.9 * i / len(rows), f"neighbours of patient {i + 1} of {len(rows)}")
        picture = _picture(row.sets[0])
        others = [(p, j) for p, j in everybody if j != i and _picture(p) != picture]
        found = Candidates([p.pk for p, _ in others], [str(j) for _, j in others], [], [p.sha256 for p, _ in others])
        owner = {p.pk: j for p, j in others}
        ranked = rank(read_sets([row.sets[0].pk])[row.sets[0].pk], version, found, k) if others else None
        near.append([owner[pk] for pk, _ in ranked.nearest] if ranked else [])
    return near


def _picture(row: Prediction) -> str:
    return row.image.sealed_sha256 if row.image is not None else row.slide.working_sha256


def standing(user: Any, cohort: Cohort, reference: Reference, endpoint: str = "OS") -> OutcomeValue | None:
    """The newest measurement of a reference in a cohort, or None."""
    found = OutcomeValue.objects.visible_to(user).filter(cohort=cohort, version=reference.version, measured=reference.measured)
    return found.filter(endpoint=endpoint).select_related("version").first()


def neighbour_outcome(user: Any, tissue: Tissue, reference: Reference | None, endpoint: str = "OS") -> NeighbourOutcome:
    """What may be said of her neighbours' outcomes: their curve beside the matched one, or why there is none."""
    cohort = tissue.sample.patient.cohort
    value = standing(user, cohort, reference, endpoint) if reference else None
    if reference is None or value is None:
        why = "it was not measured here whether neighbours' outcomes say more than age and stage."
        return NeighbourOutcome(f"No outcome value shown in this cohort: {why} {SINGLE}")
    if not value.shown:
        return NeighbourOutcome(f"No outcome value shown in this cohort: {value.facts['why']} {SINGLE}", value)
    near, why = _hers(user, tissue, reference, value)
    if why:
        return NeighbourOutcome(f"No curve of her neighbours: {why} {SINGLE}", value)
    record(user, "read survival", cohort, cohort_id=cohort.pk)
    told = value.facts
    note = (
        f"The {told['k']} nearest patients of this cohort, beside those of the same stage and a same treatment. Leaving each patient out, "
        f"the neighbours' curve gains {told['gain']:+.3f} in C over age and stage "
        f"(95% {told['gain_lower']:+.3f} to {told['gain_upper']:+.3f}; {told['n']} patients, {told['events']} events). "
        "It says nothing about which treatment helps."
    )
    return NeighbourOutcome(note, value, _curves(user, tissue, near, endpoint))


def _hers(user: Any, tissue: Tissue, reference: Reference, value: OutcomeValue) -> tuple[list[Endpoint], str]:
    """(outcomes of her k nearest patients of the cohort, "") or ([], why they are too few)."""
    from ml.survival.neighbour_value import LEAST_EVENTS, LEAST_NEIGHBOURS

    cohort, k = tissue.sample.patient.cohort, value.facts["k"]
    rows = {r.endpoint.patient.code: r for r in _rows(cohort, reference.version.pk, reference.measured, value.endpoint)}
    found = candidates(user, reference.version, tissue, Filters(cohort=cohort))
    keep = [i for i, code in enumerate(found.persons) if code in rows]
    left = Candidates(*([column[i] for i in keep] for column in (found.ids, found.persons, found.sites, found.revisions)))
    own = Prediction.objects.visible_to(user).filter(kind=Prediction.Kind.NICHE_SET, version=reference.version)
    mine = own.filter(**{"image" if reference.measured else "slide": tissue}).values_list("pk", flat=True).first()
    if mine is None or len(set(left.persons)) < LEAST_NEIGHBOURS:
        return [], f"fewer than {LEAST_NEIGHBOURS} patients can be neighbours."
    ranked = rank(read_sets([mine])[mine], reference.version, left, k)
    person = dict(zip(left.ids, left.persons))
    near = [rows[person[pk]].endpoint for pk, _ in ranked.nearest]
    events = sum(e.event for e in near)
    if events < LEAST_EVENTS:
        return [], f"they had {events} events, and it takes {LEAST_EVENTS}."
    return near, ""


def _curves(user: Any, tissue: Tissue, near: list[Endpoint], endpoint: str) -> Any:
    from tissueboard.outcomes.services import side_by_side

    patient = tissue.sample.patient
    stage = patient.clinical.get("stage")
    given = Event.objects.filter(patient=patient, kind=EventKind.TREATMENT).values("name")
    same = Event.objects.filter(patient__cohort=patient.cohort, kind=EventKind.TREATMENT, name__in=given).values("patient")
    matched = Endpoint.objects.visible_to(user).filter(patient__cohort=patient.cohort, name=endpoint, patient__clinical__stage=stage)
    matched = matched.filter(patient__in=same).exclude(patient__code=patient.code).select_related("patient")
    groups = {"nearest": near, "same stage and a same treatment": [e for e in matched if e.entry_days < e.time_days]}
    return side_by_side(user, patient.cohort, endpoint, groups)
