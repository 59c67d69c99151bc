"""A HEX version held against measured proteins of patients whom it never saw.

The result is a version of its own, on the same weights, bound to the cohorts that it was measured on: its card counts there, and nobody
else learns of those patients, not even how many they are.
"""

from __future__ import annotations

from typing import Any

from tissueboard.cohorts.models import Cohort
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import Member, ModelVersion
from tissueboard.model_registry.services import NewVersion, choose_fold, register

from .hex_fit import card_rows, comparison_rows
from .hex_tiles import MeasuredTiles
from .hex_weights import load_hex
from .plain import plain
from .refusing import model_refusals

LEAST_PATIENTS = 2


def evaluate_hex(ctx: JobContext) -> Done:
    """Job predictions.evaluate_hex. params: cohorts (ids), version (HEX), config (of HexEvaluateConfig), name."""
    import numpy as np

    from ml import families

    cohorts = list(Cohort.objects.filter(pk__in=ctx.params["cohorts"]).order_by("pk"))
    version = ModelVersion.objects.get(pk=ctx.params["version"], family="hex")
    config = families.config("hex", "evaluate", ctx.params.get("config", {}))
    tiles = MeasuredTiles(cohorts, ctx, LEAST_PATIENTS)
    weights = load_hex(version)
    unseen = {a.sample.patient.code for a in tiles.assays if _never_seen(version, a.sample.patient, len(weights.folds))}
    left_out = len(tiles.sites) - len(unseen)
    if len(unseen) < LEAST_PATIENTS:
        sentence = f"{version} was fitted on {left_out} of the {len(tiles.sites)} measured patients; {len(unseen)} are left."
        raise JobRefused(
            "ALL_SEEN", sentence, f"It takes {LEAST_PATIENTS} patients whom no fold saw; their held-out figures are on its page."
        )
    if abs(tiles.tile_um - weights.config.tile_um) > 0.02 * weights.config.tile_um:
        sentence = f"The labels are means of tiles of {tiles.tile_um:g} um and {version} reads tiles of {weights.config.tile_um:g} um."
        raise JobRefused("TILE_SIZE_DIFFERS", sentence, "Make labels of the same tile size.")
    tiles.keep(unseen)
    with model_refusals():
        tiles.read(weights.config.input_px)
        ctx.progress(0.2, "predicting")
        found = families.runner("hex", "evaluate")(weights, tiles.images, tiles.labels, tiles.patients, tiles.slides, tiles.markers, config)
    rows = comparison_rows({"HEX": found.predicted, **found.baselines}, found.labels, tiles)
    low, high = np.quantile(found.predicted, [0.01, 0.99], axis=0)
    medians = {
        f"median_{key}": float(np.nanmedian([getattr(f, key) for f in found.figures]))
        for key in ("r_within", "r2_within", "r_pooled", "mse")
    }
    metrics = {
        **medians,
        "markers": [vars(f) for f in found.figures],
        "card": card_rows(found.card),
        "limits": {m: [float(a), float(b)] for m, a, b in zip(found.markers, low, high)},
        "comparison": rows,
        "conformal": found.conformal.to_dict(),
        "effective_resolution_um": version.metrics.get("effective_resolution_um"),
        "external_patients": len(unseen),
        "left_out_as_seen": left_out,
        "out_of_range_share": found.out_of_range_share,
    }
    new = NewVersion(
        family="hex",
        name=ctx.params["name"],
        label=version.label,
        config=version.config,
        key=version.key,
        sha256=version.sha256,
        provenance={
            **{k: version.provenance[k] for k in ("made_at", "encoder") if k in version.provenance},
            "code_version": ctx.code_version,
            "inputs": {"weights": version.sha256, **tiles.checksums},
            "facts": {"measured on": [c.name for c in cohorts], "weights of": str(version), "job": ctx.job_id},
        },
        licence=version.licence,
        metrics=plain(metrics),
        members=_members(version),
        pitch_um=version.pitch_um,
        panel=tuple(version.panel),
        pretraining_overlap=version.pretraining_overlap,
    )

    def publish() -> None:
        # The measured one is used by itself only where the version that was measured is not: a chain that goes on keeps its models.
        register(new, cohorts=cohorts, parents=[version], current=not version.is_current)

    return Done([OutputSpec("evaluation", "", {"patients": len(unseen)})], publish)


def _never_seen(version: ModelVersion, patient: Any, n_folds: int) -> bool:
    choice = choose_fold(version, patient, n_folds)
    return choice.fold is None and not choice.in_sample


def _members(version: ModelVersion) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for fold, digest in Member.objects.filter(version=version).values_list("fold", "patient_hash"):
        found.setdefault(fold, []).append(digest)
    return found
