"""Simulated patients in a cohort: made by ml.simulate, brought in by the same intake as real ones."""

from __future__ import annotations

from typing import Any

from tissueboard.assays.models import Assay, Panel
from tissueboard.cohorts.models import ClinicalVariable, Cohort, Endpoint, Event, EventKind, Patient, TimePoint, VariableKind
from tissueboard.intake.services import import_slide
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.slides.models import Slide
from tissueboard.slides.tiling import grid_of, open_working
from tissueboard.store import store

SOURCE = "simulator"
TILE_UM = 56.0
PANEL = "HEX 40"
# name, label, kind, unit, categories
DICTIONARY = (
    ("age", "Age at sampling", VariableKind.NUMBER, "years", []),
    ("sex", "Sex", VariableKind.CATEGORY, "", ["female", "male"]),
    ("stage", "Stage", VariableKind.CATEGORY, "", ["I", "II", "III", "IV"]),
    ("ecog", "ECOG performance status", VariableKind.CATEGORY, "", ["0", "1", "2", "3"]),
    ("histology", "Histology", VariableKind.CATEGORY, "", ["adenocarcinoma", "squamous cell carcinoma"]),
    ("pack_years", "Pack-years", VariableKind.NUMBER, "pack-years", []),
)


def describe_cohort(cohort: Cohort) -> None:
    """Writes the data dictionary of simulated patients and their panel."""
    from ml.hex.panel import HEX_PANEL

    for name, label, kind, unit, categories in DICTIONARY:
        defaults = {"label": label, "kind": kind, "unit": unit, "categories": categories}
        ClinicalVariable.objects.update_or_create(cohort=cohort, name=name, defaults=defaults)
    Panel.objects.get_or_create(name=PANEL, defaults={"markers": list(HEX_PANEL)})


def simulate(ctx: JobContext) -> Done:
    """Job pipelines.simulate_patient. params: cohort, index, seed, site, config. The picture, the assay and the record of one patient."""
    from ml.simulate import SimulatorConfig, simulate_patient

    cohort = Cohort.objects.get(pk=ctx.params["cohort"])
    config = SimulatorConfig(**ctx.params.get("config", {}))
    person = simulate_patient(ctx.params["index"], ctx.params["seed"], ctx.params["site"], config)
    ctx.progress(0.1, "drawing the slide")
    picture = store.new_temp(".tif")
    person.write_slide(picture)
    ctx.progress(0.4, "checking and importing")
    try:
        result = import_slide(
            None,
            cohort,
            picture,
            file_name=f"{person.code}.tif",
            patient_code=person.code,
            sample_code=f"{person.code}-T1",
            scanner=person.scanner,
            site=person.site,
            stain_batch=person.stain_batch,
            simulated=True,
        )
    finally:
        picture.unlink(missing_ok=True)
    if result.slide is None or result.slide.state != Slide.State.READY:
        told = "; ".join(f["sentence"] for f in result.findings) or "no finding"
        raise JobRefused("SIMULATED_SLIDE_REFUSED", f"The simulated slide {person.code} was not accepted: {told}", "Check the simulator.")
    slide = Slide.objects.select_related("sample__patient").get(pk=result.slide.pk)
    ctx.progress(0.8, "measuring proteins")
    key, sha, n_tiles = _write_assay(slide, person, config)

    def publish() -> None:
        _record(slide, person)
        Assay.objects.update_or_create(
            slide=slide,
            kind="simulated codex",
            defaults={
                "sample": slide.sample,
                "panel": Panel.objects.get(name=PANEL),
                "tile_um": TILE_UM,
                "key": key,
                "sha256": sha,
                "simulated": True,
                "facts": {"n_tiles": n_tiles, "scale": "0..1", "source": SOURCE},
            },
        )

    return Done([OutputSpec("assay", key, {"slide": slide.pk})], publish)


def _write_assay(slide: Slide, person: Any, config: Any) -> tuple[str, str, int]:
    """Parquet of the measured tiles: x, y (px0), then a column per marker in 0..1. Gives key, SHA-256 and the number of tiles."""
    import pandas as pd

    from ml.simulate import tile_labels

    with open_working(slide) as opened:
        grid = grid_of(slide, opened, TILE_UM)
    labels = tile_labels(person.tissue, grid, config)
    table = pd.DataFrame(labels.values, columns=list(labels.markers))
    table.insert(0, "y", grid.xy[:, 1])
    table.insert(0, "x", grid.xy[:, 0])
    temp = store.new_temp(".parquet")
    table.to_parquet(temp, index=False)
    key = f"slides/{slide.pk}/simulated-codex.parquet"
    return key, store.save(temp, key), len(table)


def _record(slide: Slide, person: Any) -> None:
    """The patient's clinical values, events and outcomes."""
    patient: Patient = slide.sample.patient
    clinical = person.clinical
    patient.clinical = {name: clinical[name] for name, *_ in DICTIONARY} | {"ecog": str(clinical["ecog"])}
    patient.question = clinical["question"]
    patient.save(update_fields=["clinical", "question"])
    sample = slide.sample
    sample.body_site, sample.procedure, sample.day = clinical["specimen_site"], clinical["procedure"], 0.0
    sample.time_point, sample.tumour = TimePoint.PRE, "primary"
    sample.save(update_fields=["body_site", "procedure", "day", "time_point", "tumour"])
    patient.events.filter(source=SOURCE).delete()
    events = [Event(kind=EventKind.SAMPLING, name=clinical["procedure"], sample=sample, day=0.0)]
    for t in person.treatments:
        line = "" if t.line == 0 else f"line {t.line}"
        events.append(Event(kind=EventKind.TREATMENT, name=t.name, value=line, method=t.kind, day=t.day, end_day=t.end_day))
    for m in person.markers:
        value = "" if m.value is None else f"{m.value:.0f}" if isinstance(m.value, float) else str(m.value)
        events.append(Event(kind=m.kind, name=m.name, state=m.state, value=value, unit=m.unit, method=m.method, day=m.day, sample=sample))
    if person.outcome.progression_days is not None:
        events.append(Event(kind=EventKind.PROGRESSION, name="progression", day=person.outcome.progression_days))
    for event in events:
        event.patient, event.source = patient, SOURCE
    Event.objects.bulk_create(events)
    outcomes = (("OS", person.outcome.time_days, person.outcome.event), ("PFS", person.outcome.pfs_days, person.outcome.pfs_event))
    for name, days, event in outcomes:
        Endpoint.objects.update_or_create(
            patient=patient, name=name, defaults={"time_days": float(days), "event": bool(event), "time_zero": "surgery", "source": SOURCE}
        )
