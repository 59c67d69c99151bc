"""A database of its own with patients and niche sets, for bench_niche_copy.py and bench_similar_niches.py. Import it before Django."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
HOME = Path(tempfile.mkdtemp(prefix="tissueboard-bench-", dir="/tmp"))
os.environ |= {"TISSUEBOARD_HOME": str(HOME), "DJANGO_SETTINGS_MODULE": "tissueboard.settings"}
os.environ.pop("DATABASE_URL", None)
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

import numpy as np  # noqa: E402

MARKERS = [f"marker {i}" for i in range(40)]


def start() -> None:
    """Starts Postgres in a new folder with the tables of the product; both go when the process ends."""
    import django
    from django.core.management import call_command

    from tissueboard.embedded import postgres

    postgres.start(HOME)
    atexit.register(shutil.rmtree, HOME, ignore_errors=True)
    atexit.register(postgres.stop, HOME)
    django.setup()
    call_command("migrate", verbosity=0)


def make_version(name):
    from tissueboard.model_registry.models import ModelVersion

    common = {"label": "trained here", "config": {}, "key": "none", "sha256": "0" * 64, "provenance": {}, "licence": "Apache-2.0"}
    return ModelVersion.objects.create(family="niche", name=name, **common)


def make_sets(cohort, version, n, first=0):
    """n patients of a cohort, each with a slide and the record of an empty niche set."""
    from tissueboard.cohorts.models import Patient, Sample
    from tissueboard.jobs.models import Job
    from tissueboard.predictions.models import Prediction
    from tissueboard.slides.models import Slide

    job, _ = Job.objects.get_or_create(kind="bench", queue="cpu", idempotency_key="bench", defaults={"params": {}})
    patients = Patient.objects.bulk_create(Patient(cohort=cohort, code=f"{cohort.name} {first + i}") for i in range(n))
    samples = Sample.objects.bulk_create(Sample(patient=p, code="S") for p in patients)
    slides = Slide.objects.bulk_create(Slide(sample=s, name=s.patient.code, sealed_sha256=f"{s.pk:064d}") for s in samples)
    return Prediction.objects.bulk_create(
        Prediction(kind="niche set", patient=s.sample.patient, slide=s, version=version, job=job, inputs={}, code_version="bench")
        for s in slides
    )


def random_set(rng, dim, niches, centres=None):
    """One tissue: niches around a few of the centres (as tissues are), or independent ones; with means of 40 markers."""
    from ml.types import NicheSet

    vectors = rng.standard_normal((niches, dim))
    if centres is not None:
        vectors = 0.6 * vectors + centres[rng.integers(0, len(centres), niches)] + 0.3 * rng.standard_normal(dim)
    boxes = np.column_stack([rng.random((niches, 2)) * 20_000, np.full((niches, 2), 256.0)])
    proteins = [dict(zip(MARKERS, row)) for row in rng.random((niches, 40)).round(5).tolist()]
    return NicheSet(vectors.astype(np.float32), np.full(niches, 1 / niches), boxes), proteins
