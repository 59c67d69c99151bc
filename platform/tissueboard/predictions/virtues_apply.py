"""Multiplex image -> tokens of its niches, its tissue and its cells, with a version of VirTues."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tissueboard.assays.cells import cell_table, mask_labels
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.services import choose_fold
from tissueboard.store import checksum, store

from .models import Prediction
from .plain import plain
from .publishing import publish_of, withdraw_output
from .refusing import model_refusals
from .virtues_images import ImageSource, dataset_of, digest, load_image_source, read_pixels, why_not_seen
from .virtues_weights import embed_config, load_virtues

EMBEDDING, CELLS = Prediction.Kind.EMBEDDING, Prediction.Kind.CELLS


@dataclass(frozen=True)
class Seen:
    """An image made ready for a version. prepared: ml.virtues.panel.Prepared, its `dropped` names every channel that is not used. mask:
    (h, w) labels at the pitch, or None. scale: px of level 0 per px of the pitch."""

    prepared: Any
    mask: Any
    scale: float


def apply_virtues(ctx: JobContext) -> Done:
    """Job predictions.virtues. params: image, version. Work is kept crop by crop."""
    from ml import families
    from ml.virtues.embedding_files import cell_frame, write_cells, write_embedding

    source = load_image_source(ctx.params)
    image, version = source.image, source.version
    weights, config = load_virtues(version), embed_config(version)
    ctx.progress(0.0, "reading the image")
    seen = see(source, weights, config.crop_px)
    state = ctx.workdir / f"virtues-{digest(source.inputs())[:16]}"
    with model_refusals():
        found = families.runner("virtues", "embed")(
            weights.model, seen.prepared, seen.mask, config, folder=state,
            progress=lambda share, text: ctx.progress(0.02 + 0.93 * share, text),
        )  # fmt: skip
    ctx.progress(0.96, "saving")
    choice = choose_fold(version, image.sample.patient, 1)
    about = {"version": str(version), "label": version.label, "licence": version.licence, **facts_of_panel(seen, version, source)}
    temp = store.new_temp(".h5")
    write_embedding(temp, found, seen.prepared, seen.scale, {**about, "in_sample": choice.in_sample})
    key = f"assays/{image.pk}/virtues/embedding-{version.pk}-{checksum(temp)[:12]}.h5"
    sha = store.save(temp, key)
    facts = {**about, **_facts(found, config), "importance": _importance(found)}
    outputs = [OutputSpec("embedding", key, {"sha256": sha, "niches": len(found.niches)})]
    cells = None
    if found.cells is not None:
        frame = cell_frame(found.cells, seen.mask, seen.scale, _types(source))
        temp = store.new_temp(".parquet")
        write_cells(temp, frame, {**about, "in_sample": choice.in_sample})
        cells_key = f"assays/{image.pk}/virtues/cells-{version.pk}-{checksum(temp)[:12]}.parquet"
        cells = (cells_key, store.save(temp, cells_key), {"n_cells": len(frame), "of": source.cells.n_cells if source.cells else 0})
        outputs.append(OutputSpec("cells", cells_key, {"sha256": cells[1], "cells": len(frame)}))

    def publish() -> None:
        common = {
            "job_id": ctx.job_id, "fold": choice.fold, "in_sample": choice.in_sample, "inputs": source.inputs(),
            "code_version": ctx.code_version,
        }  # fmt: skip
        publish_of(image, version, EMBEDDING, {**common, "key": key, "sha256": sha, "facts": plain(facts)})
        if cells is None:
            withdraw_output(image, version, CELLS)
        else:
            publish_of(image, version, CELLS, {**common, "key": cells[0], "sha256": cells[1], "facts": plain(cells[2])})

    return Done(outputs, publish)


def see(source: ImageSource, weights: Any, crop_px: int, *, with_cells: bool = True) -> Seen:
    """Reads what a version can use of an image and prepares it.

    JobRefused PITCH_TOO_FINE, IMAGE_TOO_SMALL, NO_STANDARD, NO_KNOWN_MARKER, NO_CHANNEL_LEFT, NO_TISSUE, IMAGE_TOO_LARGE, and of a mask
    whose files are lost.
    """
    from ml.virtues.panel import prepare

    image, pitch = source.image, weights.pitch_um
    told = why_not_seen(image, pitch, crop_px)
    if told is not None:
        raise JobRefused(*told)
    standard = weights.standards.get(dataset_of(image))
    if standard is None:
        raise no_standard(source.version, image)
    with model_refusals():
        chosen = weights.bank.select(source.proteins)
        kept = chosen.kept.tolist()
        labels = mask_labels(source.cells) if with_cells and source.cells is not None else None
        read = read_pixels(image, kept, pitch, labels)
        prepared = prepare(read, [source.proteins[i] for i in kept], weights.bank, standard)
    why = {image.channels[place]: reason for place, reason in chosen.dropped} | dict(prepared.dropped)
    dropped = tuple((name, why[name]) for name in image.channels if name in why)
    mask = read.mask if read.mask is not None and read.mask.any() else None
    return Seen(replace(prepared, dropped=dropped), mask, pitch / float(image.mpp or pitch))


def no_standard(version: ModelVersion, image: Any) -> JobRefused:
    what = image.get_technology_display() if image.technology != "unknown" else "unstated technology"
    said = f"{version} has no means and deviations of the images ({what}) of the cohort {image.sample.patient.cohort.name}."
    hint = "Take the version into use on this cohort first (training “virtues_adopt”); that measures them."
    return JobRefused("NO_STANDARD", said, hint)


def facts_of_panel(seen: Seen, version: ModelVersion, source: ImageSource) -> dict[str, Any]:
    """What an output says of its channels: names, proteins, dropped with why, shared proteins, pitch, data set."""
    from ml.multiplex.uniprot import proteins_of, shared

    prepared = seen.prepared
    named = [one._replace(uniprot=protein) for one, protein in zip(proteins_of(prepared.names), prepared.proteins)]
    return {
        "names": list(prepared.names),
        "proteins": list(prepared.proteins),
        "dropped": [list(one) for one in prepared.dropped],
        "shared": shared(named),
        "pitch_um": version.pitch_um,
        "data_set": dataset_of(source.image),
        "embeddings": version.provenance.get("embeddings", ""),
        "tissue_share": round(float(prepared.tissue.mean()), 4),
    }


def _facts(found: Any, config: Any) -> dict[str, Any]:
    return {
        "n_niches": len(found.niches),
        "n_tissue_niches": int((found.share >= config.min_tissue).sum()),
        "dim": found.niches.shape[1],
        "crop_px": config.crop_px,
        "central": bool(len(found.central)),
    }


def _importance(found: Any) -> dict[str, list[float]]:
    from ml.virtues.importance import importance

    return {reading: importance(found.rho, reading).round(4).tolist() for reading in ("paper", "attended")}


def _types(source: ImageSource) -> Any:
    """The columns of types of the cell table, by cell_id; None without any."""
    assert source.cells is not None
    names = list((source.cells.facts.get("table") or {}).get("types", {}))
    table = cell_table(source.cells) if names else None
    return None if table is None else table.set_index("cell_id")[names]
