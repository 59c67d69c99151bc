"""The job behind a discovery: cells of all images as one table, the recipe of ml.discovery, one frozen row with two files."""

from __future__ import annotations

from typing import Any

from tissueboard.cohorts.models import Cohort, Patient
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction
from tissueboard.predictions.plain import plain
from tissueboard.store import store

from .discovery_files import write_cells, write_patients
from .discovery_ground import cells_in, check_cells, config_class, discovery_refusals, outcomes_of, responses
from .models import Discovery

READING = 0.05


def discover(ctx: JobContext) -> Done:
    """Job outcomes.discover. params: cohort, version, kind, variable and value or endpoint, config. Steps are kept in the work folder."""
    cohort, version = Cohort.objects.get(pk=ctx.params["cohort"]), ModelVersion.objects.get(pk=ctx.params["version"])
    config = config_class(ctx.params["kind"])(**ctx.params["config"])
    sources = cells_in(cohort, version)
    check_cells(cohort, version, sources, 1)
    tokens, table = _read(ctx, sources)
    biomarkers = ctx.params["kind"] == Discovery.Kind.BIOMARKERS
    with discovery_refusals():
        report, who, patients, cells = (_biomarkers if biomarkers else _risk_groups)(ctx, cohort, tokens, table["patient"], config)
    # Everybody with a row in the files, also those without an outcome.
    rows = list(Patient.objects.filter(cohort=cohort, code__in=set(table["patient"].tolist())))
    seen = {one.patient.code for one in sources if one.in_sample} & set(who)
    asked = {name: ctx.params[name] for name in ("variable", "value", "endpoint") if name in ctx.params}
    result = plain({**report, "in_sample": len(seen), "images": len(sources)})
    about = {
        "cohort": cohort.name, "version": str(version), "label": version.label, "kind": ctx.params["kind"], **asked, "n": report["n"],
        "in_sample": len(seen), "code_version": ctx.code_version,
    }  # fmt: skip
    folder = f"outcomes/discoveries/{ctx.job_id}"
    cells_key, cells_sha = write_cells(folder, {**table, **cells}, about)
    patients_key, patients_sha = write_patients(folder, patients, about)
    events = report["responders"] if biomarkers else report["events"]

    def publish() -> None:
        made = Discovery.objects.create(
            cohort=cohort, version=version, kind=ctx.params["kind"], params={**asked, "config": config.model_dump(mode="json")},
            result=result, n=report["n"], events=events, cells_key=cells_key, cells_sha256=cells_sha, patients_key=patients_key,
            patients_sha256=patients_sha, inputs={f"cells {one.pk}": one.sha256 for one in sources}, code_version=ctx.code_version,
            job_id=ctx.job_id,
        )  # fmt: skip
        made.patients.set(rows)

    specs = [("cells", cells_key, cells_sha), ("patients", patients_key, patients_sha)]
    return Done([OutputSpec(kind, key, {"sha256": sha, "n": report["n"]}) for kind, key, sha in specs], publish)


def _read(ctx: JobContext, sources: list[Prediction]) -> tuple[Any, dict[str, Any]]:
    """(tokens (n, d) float32, {patient, image, cell_id, x_px0, y_px0}: n each) of all images."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    tokens: list[Any] = []
    columns: dict[str, list[Any]] = {name: [] for name in ("patient", "image", "cell_id", "x_px0", "y_px0")}
    for i, one in enumerate(sources):
        ctx.progress(READING * i / len(sources), f"cells of image {i + 1} of {len(sources)}")
        assert one.image is not None
        try:
            found = pq.read_table(store.path(one.key), columns=["cell_id", "x_px0", "y_px0", "token"])
        except (OSError, pa.ArrowException) as error:
            said = f"The cells of {one.image.name} are not in the store, or cannot be read."
            raise JobRefused("CELLS_MISSING", said, "Run VirTues on this image again.", where=one.image.name) from error
        n = len(found)
        if n:
            tokens.append(found["token"].combine_chunks().flatten().to_numpy().astype(np.float32, copy=False).reshape(n, -1))
            for name in ("cell_id", "x_px0", "y_px0"):
                columns[name].append(found[name].to_numpy())
            columns["patient"].append(np.full(n, one.patient.code))
            columns["image"].append(np.full(n, one.image.name))
    if not tokens:
        raise JobRefused("NO_CELLS", "None of the images has a cell.", "Check the cell masks.")
    return np.concatenate(tokens), {name: np.concatenate(parts) for name, parts in columns.items()}


def _progress(ctx: JobContext) -> Any:
    return lambda share, doing: ctx.progress(READING + (0.97 - READING) * share, doing)


def _biomarkers(ctx: JobContext, cohort: Cohort, tokens: Any, codes: Any, config: Any) -> tuple[dict[str, Any], tuple[str, ...], Any, Any]:
    """(report, patients whose outcomes took part, table of patients, columns of cells)."""
    from ml.discovery.reports import biomarker_cells, biomarker_patients, biomarker_report
    from ml.discovery.runs import run_biomarkers

    response = responses(cohort, ctx.params["variable"], ctx.params["value"])
    run = run_biomarkers(tokens, codes, response, config, ctx.workdir / "discovery", _progress(ctx))
    return biomarker_report(run), run.patients, biomarker_patients(run), biomarker_cells(run)


def _risk_groups(ctx: JobContext, cohort: Cohort, tokens: Any, codes: Any, config: Any) -> tuple[dict[str, Any], tuple[str, ...], Any, Any]:
    from ml.discovery.reports import risk_cells, risk_patients, risk_report
    from ml.discovery.runs import run_risk_groups

    outcomes = outcomes_of(cohort, ctx.params["endpoint"])
    run = run_risk_groups(tokens, codes, outcomes, config, ctx.workdir / "discovery", _progress(ctx))
    return risk_report(run), run.found.patients, risk_patients(run), risk_cells(run)
