"""Named people and two small hand-made cohorts with real files. `people` is a fixture: `from people import people` in a conftest.

`lung` is the cohort of manager, contributor and viewer; `breast` is the cohort of `stranger`, who may not know of lung, and nobody of lung
may know of breast. outsider and staff are members of nothing; anonymous has not signed in.
"""

import hashlib
from types import SimpleNamespace
from typing import Any

import pytest

MEMBERS = ("manager", "contributor", "viewer")
PERSONS = (*MEMBERS, "outsider", "stranger", "staff", "anonymous")
PASSWORD = "a pass phrase for tests"
STARTS = {"lung": (1, "LU"), "breast": (101, "BR")}


class World(SimpleNamespace):
    """Rows by name, and clients of the people."""

    def client(self, person: str) -> Any:
        """A browser's client, signed in (not for anonymous)."""
        from django.test import Client

        client = Client()
        if person != "anonymous":
            client.force_login(self.users[person])
        return client

    def api(self, person: str) -> Any:
        """A client that sends a bearer token (not for anonymous) and JSON."""
        from rest_framework.test import APIClient

        from tissueboard.accounts.services import issue_token

        client = APIClient()
        client.default_format = "json"
        if person != "anonymous":
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_token(self.users[person])[0]}")
        return client


@pytest.fixture
def people(db) -> World:
    """See the module. users, versions; lung and breast have patients, slides, sample, map, niche_set, risk, import_, jobs."""
    return build()


def build() -> World:
    from small_tissue import small_world

    from tissueboard.accounts.models import User
    from tissueboard.cohorts.models import Membership

    files = small_world()
    users = {name: User(username=name, is_staff=name == "staff") for name in PERSONS if name != "anonymous"}
    for user in users.values():
        user.set_password(PASSWORD)
    User.objects.bulk_create(users.values())
    cohorts = {name: _cohort(name) for name in STARTS}
    pairs = [(name, cohorts["lung"]) for name in MEMBERS] + [("stranger", cohorts["breast"])]
    Membership.objects.bulk_create(
        Membership(user=users[name], cohort=cohort, role=name if name in MEMBERS else "manager") for name, cohort in pairs
    )
    versions = _versions(cohorts, files)
    parts = {
        name: _records(cohort, files, versions, first=i * 2, user=users["contributor" if name == "lung" else "stranger"])
        for i, (name, cohort) in enumerate(cohorts.items())
    }
    return World(users=users, versions=versions, **users, **parts)


def _cohort(name: str) -> Any:
    from tissueboard.cohorts.models import ClinicalVariable, Cohort

    cohort = Cohort.objects.create(name=name, description=f"{name} by hand", min_group_size=2)
    rows = (("age", "number", "years", []), ("stage", "category", "", ["I", "II"]), ("smoker", "boolean", "", []))
    ClinicalVariable.objects.bulk_create(
        ClinicalVariable(cohort=cohort, name=n, label=n.title(), kind=k, unit=u, categories=c) for n, k, u, c in rows
    )
    return cohort


def _versions(cohorts: dict[str, Any], files: Any) -> dict[str, Any]:
    """hex and niche stand on nobody's data (visible to all who sign in); each cohort has a risk model of its own."""
    from small_tissue import PANEL, TILE_UM

    from tissueboard.model_registry.models import ModelVersion

    card = {n: {"r2": 0.4, "r": 0.6, "r_lower": 0.5, "r_upper": 0.7, "n": 6, "external_n": 0, "locked": False, "reason": ""} for n in PANEL}
    card["CD68"] |= {"r2": 0.02, "locked": True, "reason": "within-slide R2 below 0.10"}
    common = {
        "label": ModelVersion.Label.SIMULATED,
        "config": {},
        "key": "small/none",
        "sha256": "0" * 64,
        "licence": "Apache-2.0",
        "provenance": {"code_version": "test", "inputs": {}, "facts": {}},
    }
    hex_metrics = {"limits": {n: [0.0, 1.0] for n in PANEL}, "card": card, "effective_resolution_um": 112.0}
    hex_version = ModelVersion.objects.create(
        family="hex", name="small hex", panel=list(PANEL), pitch_um=TILE_UM, metrics=hex_metrics, **common
    )
    niche = ModelVersion.objects.create(
        **common | {"key": files.niche_key, "sha256": files.niche_sha256}, family="niche", name="small niche", panel=list(PANEL)
    )
    niche.parents.set([hex_version])
    found = {"hex": hex_version, "niche": niche}
    metrics = {"endpoint": "OS", "horizon_days": 730.5, "cut": 0.1, "n": 6, "events": 4, "c": 0.66, "c_lower": 0.5, "c_upper": 0.8}
    metrics |= {"permutation_p": 0.04, "stage_c": 0.6, "left_out": {}}
    for name, cohort in cohorts.items():
        risk = ModelVersion.objects.create(family="cox_summary", name=f"risk of {name}", panel=["CD8"], metrics=metrics, **common)
        risk.cohorts.set([cohort])
        risk.parents.set([hex_version])
        found[name] = risk
    return found


def _records(cohort: Any, files: Any, versions: dict[str, Any], first: int, user: Any) -> SimpleNamespace:
    """Six patients with outcomes; two have a ready slide with map, niches and risk, a third one's slide needs attention."""
    patients = _patients(cohort)
    slides = _slides(cohort, patients, files, first)
    jobs = _jobs(cohort, user)
    found = SimpleNamespace(cohort=cohort, patients=patients, patient=patients[0], slides=slides, slide=slides[0], waiting=slides[2])
    found.sample, found.jobs = slides[0].sample, jobs
    outputs = []
    for slide, tissue in zip(slides[:2], files.tissues[first:]):
        outputs.append(_predictions(slide, tissue, versions, versions[cohort.name], jobs["done"]))
    found.map, found.niche_set, found.risk = outputs[0]
    found.import_ = _import(cohort, user)
    return found


def _patients(cohort: Any) -> list[Any]:
    from tissueboard.cohorts.models import Endpoint, Event, Patient

    _, prefix = STARTS[cohort.name]
    patients = Patient.objects.bulk_create(
        Patient(cohort=cohort, code=f"{prefix}-{i:03}", clinical={"age": 50 + i, "stage": "I" if i % 2 else "II"}, question="Which next?")
        for i in range(6)
    )
    Endpoint.objects.bulk_create(
        Endpoint(patient=p, name="OS", time_days=200.0 + 150 * i, event=i % 3 != 0, source="outcomes.csv") for i, p in enumerate(patients)
    )
    facts = (
        ("treatment", "carboplatin", "done", "", 30.0),
        ("biomarker", "PD-L1", "done", "60", 0.0),
        ("mutation", "EGFR", "pending", "", None),
        ("progression", "first", "done", "", 180.0),
    )
    Event.objects.bulk_create(
        Event(patient=p, kind=k, name=n, state=s, value=v, day=d, unit="%" if v else "", source="events.csv")
        for p in patients[:2]
        for k, n, s, v, d in facts
    )
    return patients


def _slides(cohort: Any, patients: list[Any], files: Any, first: int) -> list[Any]:
    from small_tissue import MPP, SIDE

    from tissueboard.cohorts.models import Sample
    from tissueboard.slides.models import Slide

    samples = Sample.objects.bulk_create(
        Sample(patient=p, code=f"{p.code}-S1", time_point="pre", body_site="upper lobe", procedure="biopsy", day=0.0) for p in patients[:3]
    )
    finding = {
        "code": "MPP_MISSING",
        "severity": "error",
        "file": "Jane Rosenthal.svs",
        "where": "IFD 0",
        "sentence": "The file does not say how large a pixel is.",
        "hint": "Give the um per pixel.",
    }
    slides = []
    for i, sample in enumerate(samples):
        slide = Slide(sample=sample, name=f"{sample.code}-1", site=f"site {i % 2}", scanner="hand", stain_batch="b1", vendor="generic-tiff")
        slide.sealed_sha256, slide.sealed_key = f"{first + i:064d}", files.tissues[first].slide_key
        if i < 2:
            tissue = files.tissues[first + i]
            slide.state, slide.working_key, slide.working_sha256 = "ready", tissue.slide_key, tissue.slide_sha256
            slide.width = slide.height = SIDE
            slide.mpp, slide.mpp_source, slide.tissue_mm2 = MPP, "file", 0.2
        else:
            slide.state, slide.findings = "needs attention", [finding]
        slides.append(slide)
    return Slide.objects.bulk_create(slides)


def _jobs(cohort: Any, user: Any) -> dict[str, Any]:
    """done, queued and failed; each with the rows that its states need."""
    from django.utils import timezone

    from tissueboard.jobs.models import Job, JobOutput, JobTransition

    now = timezone.now()
    times = {"started_at": now, "finished_at": now}
    error = {"error_code": "NO_TISSUE", "error_sentence": "There is no tissue on this slide.", "error_hint": "Look at the slide."}
    states = {
        "done": ("succeeded", times),
        "queued": ("queued", {}),
        "failed": ("failed", times | error | {"traceback": "secret traceback"}),
    }
    jobs = {}
    for name, (state, facts) in states.items():
        key = f"{cohort.name} {name}"
        jobs[name] = Job.objects.create(
            kind="tests.echo", queue="io", state=state, idempotency_key=key, params={"text": key}, created_by=user, queued_at=now, **facts
        )
        jobs[name].cohorts.set([cohort])
        JobTransition.objects.create(job=jobs[name], from_state="created", to_state=state, attempt=1, at=now, facts={"note": "by hand"})
    JobOutput.objects.create(job=jobs["done"], kind="text", sha256="1" * 64, size=3)
    return jobs


def _predictions(slide: Any, tissue: Any, versions: dict[str, Any], risk_version: Any, job: Any) -> tuple[Any, Any, Any]:
    from tissueboard.predictions.models import Prediction
    from tissueboard.retrieval.models import Niche

    patient = slide.sample.patient
    common = {"patient": patient, "job": job, "inputs": {"working slide": slide.working_sha256}, "code_version": "test"}
    virtual = Prediction.objects.create(
        kind="virtual map",
        slide=slide,
        version=versions["hex"],
        key=tissue.map_key,
        sha256=tissue.map_sha256,
        facts=dict(tissue.map_facts),
        **common,
    )
    facts = {"n_niches": 16, "n_medoids": len(tissue.niches.weights), "niche_um": 128.0}
    niche_set = Prediction.objects.create(kind="niche set", slide=slide, version=versions["niche"], facts=facts, **common)
    rows = zip(tissue.niches.vectors.tolist(), tissue.niches.weights.tolist(), tissue.niches.boxes.tolist(), tissue.proteins)
    Niche.objects.bulk_create(
        Niche(
            prediction=niche_set,
            patient=patient,
            slide=slide,
            version=versions["niche"],
            rank=i,
            vector=v,
            weight=w,
            x=x,
            y=y,
            width=a,
            height=b,
            proteins=p,
        )
        for i, (v, w, (x, y, a, b), p) in enumerate(rows)
    )
    facts = {"endpoint": "OS", "horizon_days": 730.5, "probability": 0.3, "lower": 0.2, "upper": 0.5, "score": 0.2, "group": "higher"}
    facts |= {"reference": "the cohort", "summary": {"CD8": 0.4}, "map": virtual.pk, "slide": slide.pk, "map_version": "hex small hex"}
    facts |= {"out_of_range_share": 0.01}
    return virtual, niche_set, Prediction.objects.create(kind="risk", version=risk_version, fold=0, facts=facts, **common)


def _import(cohort: Any, user: Any) -> Any:
    """A clinical table that was checked and waits for somebody to confirm it."""
    from tissueboard.intake.models import Import
    from tissueboard.store import store

    _, prefix = STARTS[cohort.name]
    key = f"small/{cohort.name}.csv"
    content = f"patient_id,age\n{prefix}-000,51\n".encode()
    store.path(key).write_bytes(content)
    where = {"code": "COLUMNS_NOT_READ", "severity": "info", "file": "Jane Rosenthal.csv", "where": "column 3"}
    finding = where | {"sentence": "A column is not read.", "hint": "Map it if it is needed."}
    return Import.objects.create(
        cohort=cohort,
        kind="clinical",
        state="ready",
        file_name="Jane Rosenthal.csv",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        key=key,
        dry_run=True,
        findings=[finding],
        created_by=user,
    )
