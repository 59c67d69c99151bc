"""What HEX is trained on: only slides whose file is the one that was imported."""

import pandas as pd
import pytest

from tissueboard.assays.models import Assay, Panel
from tissueboard.cohorts.models import Patient, Sample
from tissueboard.jobs import services
from tissueboard.jobs.models import State
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.hex_fit import LEAST_PATIENTS
from tissueboard.slides.models import Slide
from tissueboard.store import store

pytestmark = pytest.mark.django_db
MARKERS = ["CD8", "CD68"]


def measured(people, n: int) -> None:
    """n patients with a measured slide each; the file of the last slide is not the one of its record."""
    panel = Panel.objects.create(name="two", markers=MARKERS)
    table = store.root / "tests" / "labels.parquet"
    table.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"x": [0, 64], "y": [0, 0], "CD8": [0.1, 0.2], "CD68": [0.3, 0.4]}).to_parquet(table)
    like = people.lung.slide
    fields = ("working_key", "mpp", "width", "height", "state", "stain")
    for i in range(n):
        patient = Patient.objects.create(cohort=people.lung.cohort, code=f"HX-{i}")
        sample = Sample.objects.create(patient=patient, code="S")
        sha = like.working_sha256 if i < n - 1 else "0" * 64
        slide = Slide.objects.create(
            sample=sample, name=f"HX-{i}", sealed_sha256=f"{i:064}", working_sha256=sha, **{name: getattr(like, name) for name in fields}
        )
        common = {"kind": "codex", "tile_um": 56.0, "key": "tests/labels.parquet", "sha256": "0" * 64}
        Assay.objects.create(sample=sample, slide=slide, panel=panel, **common)


def test_a_slide_whose_file_changed_is_refused_and_nothing_is_trained(people, run_jobs):
    measured(people, LEAST_PATIENTS)
    params = {"cohorts": [people.lung.cohort.pk], "name": "of changed files"}
    job = services.enqueue(people.contributor, "predictions.fit_hex", params, cohorts=[people.lung.cohort])
    run_jobs()
    job.refresh_from_db()
    assert (job.state, job.error_code) == (State.FAILED, "FILE_CHANGED") and f"HX-{LEAST_PATIENTS - 1}" in job.error_sentence
    assert not ModelVersion.objects.filter(name="of changed files").exists()
