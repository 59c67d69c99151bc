"""What a cohort has to train on, counted before anything is queued: the same patients that the job will find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q

from tissueboard.assays.models import Assay
from tissueboard.cohorts.models import Cohort, Endpoint
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.selectors import versions_for
from tissueboard.predictions.models import Prediction
from tissueboard.slides.models import Slide

MAP, BAG = Prediction.Kind.VIRTUAL_MAP, Prediction.Kind.FEATURE_BAG
NO_FEATURES = "without features of the same slide"


@dataclass(frozen=True)
class Measured:
    """Measured proteins on ready slides, the latest assay of each. markers, tile_um: of the one panel; empty and None where there is none
    or several. sites: site of each patient, by code."""

    patients: int
    slides: int
    markers: tuple[str, ...]
    tile_um: float | None
    panels: int
    keys: tuple[str, ...]
    sites: dict[str, str]

    def tiles(self) -> int | None:
        """How many tiles carry labels, from the tables' footers; None where a table is not in the store."""
        import pyarrow.parquet as pq

        from tissueboard.store import store

        try:
            return sum(pq.read_metadata(store.path(key)).num_rows for key in self.keys)
        except (OSError, ValueError):
            return None


def measured(cohorts: Sequence[Cohort]) -> Measured:
    """Assays of the cohorts that a HEX can be trained on."""
    assays = Assay.objects.filter(sample__patient__cohort__in=cohorts, slide__state=Slide.State.READY).order_by("created_at", "pk")
    columns = ("slide_id", "pk", "sample__patient__code", "slide__site", "panel__markers", "tile_um", "key")
    latest = {row[0]: row[1:] for row in assays.values_list(*columns)}
    rows = sorted(latest.values())
    kinds = {(tuple(markers), tile_um) for *_, markers, tile_um, _ in rows}
    markers, tile_um = next(iter(kinds)) if len(kinds) == 1 else ((), None)
    sites = {code: site for _, code, site, *_ in rows}
    return Measured(len(sites), len(rows), markers, tile_um, len(kinds), tuple(row[-1] for row in rows), sites)


def versions_with_maps(user: Any, cohorts: Sequence[Cohort]) -> list[tuple[ModelVersion, int]]:
    """(protein model, patients with a map of it in the cohorts) of all that the user may see; the one in use first, then by patients."""
    patients = Count("predictions__patient", filter=Q(predictions__kind=MAP, predictions__patient__cohort__in=cohorts), distinct=True)
    versions = versions_for(user).filter(family="hex").annotate(n=patients).order_by("-is_current", "-n", "-pk")
    return [(version, version.n) for version in versions]


def encoders_with_bags(user: Any, cohort: Cohort) -> list[tuple[ModelVersion, int]]:
    """(encoder, patients with its features in the cohort) of those that have made any."""
    patients = Count("predictions__patient", filter=Q(predictions__kind=BAG, predictions__patient__cohort=cohort), distinct=True)
    versions = versions_for(user).filter(family="encoder").annotate(n=patients).filter(n__gt=0).order_by("-n", "pk")
    return [(version, version.n) for version in versions]


def endpoints_of(cohort: Cohort) -> list[tuple[str, int, int]]:
    """(endpoint, patients, events) in the cohort, most patients first."""
    rows = Endpoint.objects.filter(patient__cohort=cohort).order_by().values_list("name")
    return sorted(rows.annotate(n=Count("pk"), events=Count("pk", filter=Q(event=True))), key=lambda row: (-row[1], row[0]))


@dataclass(frozen=True)
class WithOutcome:
    """Patients whose tissue and outcome a risk can be fitted on. left_out: {reason: patients}. last_day: longest follow-up."""

    patients: int
    events: int
    event_times: int
    last_day: float
    left_out: Counter[str]

    @property
    def why_fewer(self) -> str:
        """Who was left out, in brackets; nothing where nobody was."""
        told = ", ".join(f"{n} {reason}" for reason, n in self.left_out.items() if n)
        return f" (left out: {told})" if told else ""


def with_outcome(cohort: Cohort, version: ModelVersion, endpoint: str, bags: ModelVersion | None = None) -> WithOutcome:
    """Patients of the cohort with the endpoint, counted by what they have on their index slide.

    They need a virtual map of the version that never saw their proteins; bags: whose features of the same slide they need (None: none).
    Three queries however large the cohort.
    """
    first = ("patient_id", "slide__sample__day", "slide__sample_id", "slide_id")
    made = Prediction.objects.filter(patient__cohort=cohort).order_by(*first)
    index = {row[0]: row[1:] for row in made.filter(version=version, kind=MAP).distinct("patient_id").values_list(*_MAP)}
    slides: dict[int, set[int]] = {}
    if bags is not None:
        for patient, slide in made.filter(version=bags, kind=BAG).values_list("patient_id", "slide_id"):
            slides.setdefault(patient, set()).add(slide)
    left_out: Counter[str] = Counter()
    rows = []
    outcomes = Endpoint.objects.filter(patient__cohort=cohort, name=endpoint)
    for patient, *outcome in outcomes.values_list("patient_id", "time_days", "event", "entry_days"):
        reason = _reason(index.get(patient), slides.get(patient, set()), bags)
        if reason:
            left_out[reason] += 1
        else:
            rows.append(outcome)
    if any(entry for *_, entry in rows):
        left_out["not at risk at any time"] = sum(entry >= time for time, _, entry in rows)
        rows = [row for row in rows if row[2] < row[0]]
    times = [time for time, event, _ in rows if event]
    return WithOutcome(len(rows), len(times), len(set(times)), max((row[0] for row in rows), default=0.0), left_out)


_MAP = ("patient_id", "slide_id", "in_sample")


def _reason(found: tuple[int, bool] | None, slides: set[int], bags: ModelVersion | None) -> str:
    """Why a patient with an outcome is left out; "" where she is not."""
    if found is None:
        return "without a virtual map"
    slide, in_sample = found
    if in_sample:
        # A map by weights that saw her proteins would make her look better predicted than a new patient.
        return "whose map is in-sample"
    return NO_FEATURES if bags is not None and slide not in slides else ""


def has_map(version: ModelVersion, cohorts: Sequence[Cohort]) -> bool:
    """Whether any patient of the cohorts has a virtual map of the version."""
    return Prediction.objects.filter(patient__cohort__in=cohorts, version=version, kind=MAP).exists()


def bags_of(version: ModelVersion, cohorts: Sequence[Cohort]) -> int:
    """How many slides of the cohorts have features of the version."""
    return Prediction.objects.filter(patient__cohort__in=cohorts, version=version, kind=BAG).count()
