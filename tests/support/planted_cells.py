"""Cells of 24 more patients of a cohort: kind 0 only in responders, kind 1 only in the others. No model made them."""

from __future__ import annotations

from typing import Any

QUICK = {
    "graph": {"neighbours": 8},
    "leiden": {"first": 0.5, "last": 1, "step": 0.25},
    "biomarkers": {"folds": 2, "outer_folds": 3, "screen_repeats": 2, "joint_repeats": 2, "outer_repeats": 1, "permutations": 19},
}
QUICK_GROUPS = {"cell_clusters": 5, "groups": 2, "permutations": 19, "folds": 2}


def planted(cohort: Any, job: Any, n: int = 24) -> Any:
    """The version. P23 has no response; P00 was seen by the weights; responders live longer. job: whatever job made the cells."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tissueboard.assays.models import MultiplexImage
    from tissueboard.cohorts.models import ClinicalVariable, Endpoint, Patient, Sample
    from tissueboard.model_registry.models import ModelVersion
    from tissueboard.predictions.models import Prediction
    from tissueboard.store import checksum, store

    version = ModelVersion.objects.create(
        family="virtues", name=f"planted in {cohort.name}", label="trained on simulated tissue", config={}, key="none", sha256="0" * 64,
        provenance={}, licence="MIT", pretraining_overlap="no",
    )  # fmt: skip
    ClinicalVariable.objects.create(cohort=cohort, name="pcr", label="Complete response", kind="boolean")
    ClinicalVariable.objects.create(cohort=cohort, name="grade", kind="category")
    rng = np.random.default_rng(3)
    centres = rng.normal(0, 6, (5, 12))
    for i in range(n):
        yes = i % 2 == 0
        clinical = {"pcr": yes, "grade": f"G{i % 3 + 1}"} if i != 23 else {"grade": "G1"}
        patient = Patient.objects.create(cohort=cohort, code=f"P{i:02}", clinical=clinical)
        Endpoint.objects.create(patient=patient, name="OS", time_days=100.0 + 400 * yes + i, event=i % 3 > 0, source="test")
        sample = Sample.objects.create(patient=patient, code=f"P{i:02}-S", day=0.0)
        image = MultiplexImage.objects.create(
            sample=sample, name=f"P{i:02}-MX", technology="imc", state="ready", channels=["a"], mpp=1.0, mpp_source="file", width=64,
            height=64, dtype="float32", key=f"assays/planted-{patient.pk}", sha256=f"{i:064}", sealed_sha256=f"{cohort.pk:032}{i:032}",
        )  # fmt: skip
        kinds = rng.choice([k for k in range(5) if k != (1 if yes else 0)], 30)
        tokens = (centres[kinds] + rng.normal(0, 1, (30, 12))).astype(np.float32)
        key = f"assays/{image.pk}/virtues/cells-planted.parquet"
        store.path(key).parent.mkdir(parents=True, exist_ok=True)
        token = pa.FixedSizeListArray.from_arrays(pa.array(tokens.ravel()), 12)
        ids = list(range(1, 31))
        pq.write_table(pa.table({"cell_id": ids, "x_px0": [2.0] * 30, "y_px0": [3.0] * 30, "kind": kinds, "token": token}), store.path(key))
        Prediction.objects.create(
            kind="cells", patient=patient, image=image, version=version, job=job, key=key, sha256=checksum(store.path(key)), inputs={},
            code_version="test", facts={"n_cells": 30}, in_sample=i == 0,
        )  # fmt: skip
    return version


def found(cohort: Any, version: Any, job: Any) -> Any:
    """A discovery by hand, with its two files."""
    from tissueboard.outcomes.models import Discovery
    from tissueboard.store import checksum, store

    made = Discovery.objects.filter(cohort=cohort).first()
    if made is not None:
        return made
    keys = {}
    for what, ending in (("cells", "parquet"), ("patients", "csv")):
        key = f"outcomes/discoveries/by-hand-{cohort.pk}/{what}.{ending}"
        store.path(key).parent.mkdir(parents=True, exist_ok=True)
        store.path(key).write_bytes(b"by hand")
        keys |= {f"{what}_key": key, f"{what}_sha256": checksum(store.path(key))}
    common = {"cells": 30, "chosen_in_folds": 0.4, "auroc": 0.7}
    row = {**common, "name": "4.25-7", "direction": "response", "prevalence": 0.5, "risk_ratio": None}
    few = {**common, "name": "4.5-1", "direction": "non-response", "prevalence": 0.1, "risk_ratio": 0.2}
    result = {
        "nested": {"auroc": 0.52, "lowest": 0.4, "highest": 0.6, "p": 0.41, "permutations": 200, "shuffled": 0.5},
        "printed": {"auroc": 0.71, "shuffled": 0.7}, "notes": [], "in_sample": 0, "images": 30, "cells": 900, "clusters": 60, "left_out": 0,
        "biomarkers": [{**row, "patients": 15, "responders": 9}, {**few, "patients": 3, "responders": 0}],
    }  # fmt: skip
    params = {"variable": "pcr", "value": "yes", "config": {"graph": {"neighbours": 15}}}
    return Discovery.objects.create(
        cohort=cohort, version=version, kind="biomarkers", params=params,
        result=result, n=30, events=14, inputs={}, code_version="test", job=job, **keys,
    )  # fmt: skip
