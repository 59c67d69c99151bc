"""A feature bag of a slide by hand: a real file in the store and its row."""

from typing import Any

import numpy as np


def imported_bag(slide: Any, n: int = 6, dim: int = 4) -> Any:
    """The bag of a slide as an import leaves it; the same one when asked again."""
    from ml.slides.features import write_bag
    from ml.types import FeatureBag, TileGrid
    from tissueboard.jobs.models import Job
    from tissueboard.model_registry.models import ModelVersion
    from tissueboard.predictions.models import Prediction
    from tissueboard.store import store

    facts = {
        "key": "tests/none",
        "sha256": "0" * 64,
        "licence": "unknown",
        "provenance": {"inputs": {}, "facts": {}, "code_version": "test"},
    }
    config = {"imported": "by hand", "dim": dim, "tile_um": 112.0}
    version, _ = ModelVersion.objects.get_or_create(
        family="encoder", name="by hand (imported)", defaults={"label": "imported", "config": config, "pitch_um": 112.0, **facts}
    )
    found = Prediction.objects.filter(slide=slide, version=version, kind="feature bag").first()
    if found is not None:
        return found
    xy = np.stack([np.arange(n) * 100, np.zeros(n)], axis=1).astype(np.int64)
    grid = TileGrid(xy, 112.0 / slide.mpp, slide.mpp, (slide.width, slide.height))
    temp = store.new_temp(".h5")
    write_bag(temp, FeatureBag(np.random.default_rng(slide.pk).random((n, dim)).astype(np.float32), grid, "by hand"))
    key = f"slides/{slide.pk}/by-hand.h5"
    sha = store.save(temp, key)
    job = Job.objects.filter(cohorts=slide.sample.patient.cohort).first()
    made = {"patient": slide.sample.patient, "inputs": {"working slide": slide.working_sha256}, "code_version": "test"}
    told = {"n_tiles": n, "n_skipped": 0, "tile_um": 112.0, "dim": dim, "encoder": "by hand", "imported": "trident"}
    return Prediction.objects.create(slide=slide, version=version, kind="feature bag", job=job, key=key, sha256=sha, facts=told, **made)
