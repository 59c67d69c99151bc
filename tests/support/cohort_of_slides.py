"""A cohort with any number of slides without files, and a pipeline of small jobs: for tests of runs over cohorts."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

PIPELINE = "tests"
PEOPLE = ("manager", "contributor", "viewer", "outsider", "second")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline "tests": a bag per slide, niches from it, a risk per patient."""
    from tissueboard.pipelines.declared import PIPELINES, TITLES, Step

    chain = (
        Step("tests.bag", "Bag", "hex", "feature bag", stain="H&E"),
        Step("tests.niches", "Niches", "niche", "niche set", needs=("tests.bag",)),
        Step("tests.risk", "Risk", "cox_summary", "risk", needs=("tests.bag",), per="patient", of_cohort=True),
    )
    monkeypatch.setitem(PIPELINES, PIPELINE, chain)
    monkeypatch.setitem(PIPELINES, "bags", (Step("tests.bag", "Bag", "hex", "feature bag", chosen=True),))
    monkeypatch.setitem(TITLES, PIPELINE, "Everything that tests need")
    monkeypatch.setitem(TITLES, "bags", "Bags with a version that a person chooses")


@pytest.fixture
def lung(db: None, steps: None) -> SimpleNamespace:
    """A cohort with people, three slides of three patients, and versions of the three families; no Redis is asked."""
    return build()


def build(n: int = 3) -> SimpleNamespace:
    from tissueboard.accounts.models import User
    from tissueboard.cohorts.models import Cohort, Membership
    from tissueboard.model_registry.models import ModelVersion

    cohort = Cohort.objects.create(name="lung")
    found = {name: User.objects.create_user(name, password=None) for name in PEOPLE}
    for name in ("manager", "contributor", "viewer"):
        Membership.objects.create(cohort=cohort, user=found[name], role=name)
    Membership.objects.create(cohort=cohort, user=found["second"], role="contributor")
    common: dict[str, Any] = {"label": "released", "config": {}, "key": "none", "sha256": "0" * 64, "provenance": {}, "licence": "MIT"}
    versions = {f: ModelVersion.objects.create(family=f, name=f"small {f}", **common) for f in ("hex", "niche", "cox_summary")}
    for family in ("niche", "cox_summary"):
        versions[family].parents.set([versions["hex"]])
    versions["cox_summary"].cohorts.set([cohort])
    return SimpleNamespace(cohort=cohort, versions=versions, slides=more_slides(cohort, n), common=common, **found)


def more_slides(cohort: Any, n: int, **facts: Any) -> list[Any]:
    """n patients with a sample and a ready slide each."""
    from tissueboard.cohorts.models import Patient, Sample
    from tissueboard.slides.models import Slide

    first = Patient.objects.count()
    codes = [f"P-{first + i:05}" for i in range(n)]
    patients = Patient.objects.bulk_create(Patient(cohort=cohort, code=code) for code in codes)
    samples = Sample.objects.bulk_create(Sample(patient=p, code=f"{p.code}-S", day=0.0) for p in patients)
    ready = {"state": "ready", "mpp": 0.5, "width": 1000, "height": 1000, "tissue_mm2": 1.0, "working_key": "none"}
    return Slide.objects.bulk_create(
        Slide(sample=s, name=s.code, sealed_sha256=f"{i:064}", working_sha256=f"{first + i:064x}", **(ready | facts))
        for i, s in enumerate(samples)
    )


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    """As if no worker had spoken: a window for one process."""
    from tissueboard.pipelines import feeding

    monkeypatch.setattr(feeding, "_processes", Counter)


def start(lung, user=None):
    """The run of all steps over the cohort, by the contributor unless said otherwise."""
    from tissueboard.pipelines.run_services import start_run

    return start_run(user or lung.contributor, lung.cohort, PIPELINE)


def states(run):
    """How many items are in each state."""
    from tissueboard.pipelines.models import RunItem

    return Counter(RunItem.objects.filter(run=run).with_state().values_list("state", flat=True))


def work(run, run_jobs):
    """Feeds and works in turns until nothing is left."""
    from tissueboard.pipelines.feeding import feed

    while run_jobs() or feed(run.pk):
        feed(run.pk)
    run.refresh_from_db()
    return run


def verbs():
    """What the access log says, oldest first."""
    from tissueboard.accounts.models import AccessLog

    return list(AccessLog.objects.order_by("pk").values_list("verb", "username"))
