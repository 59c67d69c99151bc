"""Patients to train on, as rows: measured proteins on ready slides, virtual maps with features, outcomes. Nothing of it is computed."""

from __future__ import annotations

from typing import Any

import pandas as pd

MARKERS = ["CD8", "CD20", "CD68"]
TILES = 3


def measured(cohort: Any, n: int, markers: list[str] | None = None, tile_um: float = 56.0) -> None:
    """n more patients with an assay of TILES labelled tiles on a ready slide."""
    from tissueboard.assays.models import Assay, Panel
    from tissueboard.store import store

    markers = markers or MARKERS
    panel, _ = Panel.objects.get_or_create(name=" ".join(markers)[:80], defaults={"markers": markers})
    key = f"tests/{len(markers)} labels.parquet"
    store.path(key).parent.mkdir(parents=True, exist_ok=True)
    table = {"x": [112 * i for i in range(TILES)], "y": [0] * TILES, **{name: [0.5] * TILES for name in markers}}
    pd.DataFrame(table).to_parquet(store.path(key))
    common = {"panel": panel, "kind": "codex", "tile_um": tile_um, "key": key, "sha256": "0" * 64}
    for slide in _slides(cohort, n):
        Assay.objects.create(sample=slide.sample, slide=slide, **common)


def mapped(
    cohort: Any,
    version: Any,
    days: list[float],
    events: list[int],
    *,
    endpoint: str = "OS",
    bags: tuple[Any, ...] | None = None,
    in_sample: bool = False,
) -> list[Any]:
    """One more patient per day with a map of the version, features of `bags` (the version itself unless said otherwise), an outcome."""
    from tissueboard.cohorts.models import Endpoint
    from tissueboard.jobs.models import Job
    from tissueboard.predictions.models import Prediction

    job, _ = Job.objects.get_or_create(idempotency_key="by hand", defaults={"kind": "tests.echo", "queue": "io"})
    slides = _slides(cohort, len(days))
    about = {"job": job, "inputs": {}, "code_version": "test", "in_sample": in_sample}
    for slide, day, event in zip(slides, days, events):
        patient = slide.sample.patient
        Prediction.objects.create(kind="virtual map", patient=patient, slide=slide, version=version, **about)
        for bag in (version,) if bags is None else bags:
            Prediction.objects.create(kind="feature bag", patient=patient, slide=slide, version=bag, **about)
        Endpoint.objects.create(patient=patient, name=endpoint, time_days=day, event=bool(event), source="by hand")
    return slides


def _slides(cohort: Any, n: int) -> list[Any]:
    from tissueboard.cohorts.models import Patient, Sample
    from tissueboard.slides.models import Slide

    first = Patient.objects.count()
    found = []
    for i in range(first, first + n):
        patient = Patient.objects.create(cohort=cohort, code=f"TR-{i:03}")
        sample = Sample.objects.create(patient=patient, code=f"TR-{i:03}-S", day=0.0)
        facts = {"state": "ready", "mpp": 0.5, "width": 1000, "height": 1000, "working_key": "none", "working_sha256": f"{i:064x}"}
        found.append(Slide.objects.create(sample=sample, name=sample.code, sealed_sha256=f"{i:064d}", **facts))
    return found
