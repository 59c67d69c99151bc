"""VirTues on virtual protein maps: training at a map's own pitch, and a slide's map seen by a version that may see it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tissueboard.assays.selectors import cohort_proteins
from tissueboard.cohorts.models import Cohort
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.services import choose_fold
from tissueboard.slides.models import Slide
from tissueboard.store import checksum, store

from .maps import card, load_map
from .models import Prediction
from .plain import plain
from .publishing import publish_of
from .refusing import model_refusals
from .virtues_bank import bank_for
from .virtues_fit import LEAST_PATIENTS, Ground, Start, register_training, train
from .virtues_images import digest
from .virtues_weights import FAMILY, embed_config, embed_settings, load_virtues

KINDS = {"tiles": Prediction.Kind.VIRTUAL_MAP, "dense": Prediction.Kind.DENSE_MAP}
LOCKED = "its predictability is below 0.10 or was never measured (the card of the protein model)"


def dataset_of_map(found: Prediction) -> str:
    """The data set of a map: those of one cohort and one protein model."""
    return f"cohort {found.patient.cohort_id} virtual {found.version_id}"


def maps_of(version: ModelVersion, cohorts: list[Cohort], which: str) -> list[Prediction]:
    """Maps of a protein model in cohorts, patient by patient. which: a key of KINDS."""
    found = Prediction.objects.filter(patient__cohort__in=cohorts, version=version, kind=KINDS[which])
    return list(found.select_related("patient__cohort", "slide__sample", "version").order_by("patient__code", "pk"))


def proteins_of_map(found: Prediction, names: tuple[str, ...]) -> tuple[list[str | None], dict[str, str]]:
    """(protein of each channel, {channel: why it is left out}); a marker that is locked on the card of its model is left out."""
    from ml.multiplex.uniprot import proteins_of

    rows, said = card(found.version), proteins_of(names, cohort_proteins(found.patient.cohort))
    locked = {name: LOCKED for name in names if rows.get(name, {"locked": True})["locked"]}
    return [None if one.channel in locked else one.uniprot for one in said], locked


def pixels_of(found: Prediction) -> tuple[Any, Any]:
    """(the map as ml.types.MultiplexImage, off the tissue 0; the VirtualMap)."""
    import numpy as np

    from ml.types import MultiplexImage

    virtual = load_map(found)
    tissue = np.isfinite(virtual.values).all(axis=0)
    values = np.where(tissue, virtual.values, 0).astype(np.float32)
    return MultiplexImage(values, tuple(virtual.names), float(virtual.pitch_um), tissue=tissue), virtual


def fit_virtues_maps(ctx: JobContext) -> Done:
    """Job predictions.fit_virtues_maps. params: cohorts (ids), version (HEX), config (of VirtuesMapsConfig), name; bank: optional."""
    from ml import families
    from ml.multiplex.uniprot import proteins_of

    cohorts = list(Cohort.objects.filter(pk__in=ctx.params["cohorts"]).order_by("pk"))
    hex_version = ModelVersion.objects.get(pk=ctx.params["version"], family="hex")
    with model_refusals():
        config = families.config(FAMILY, "pretrain_maps", ctx.params.get("config", {}))
    maps = maps_of(hex_version, cohorts, config.maps)
    source = ModelVersion.objects.get(pk=ctx.params["bank"], family=FAMILY) if ctx.params.get("bank") else None
    known = {one.uniprot for one in proteins_of(tuple(hex_version.panel)) if one.uniprot}
    with model_refusals():
        bank = bank_for(source, cohorts, known, config.network.marker_embedding_dim)
    ground, pitch = _ground(ctx, maps, config, bank)
    made = train(ctx, "pretrain_maps", ground, config.model_copy(update={"pitch_um": pitch}), bank, Start())
    embed = {**embed_settings(config.crop, config.network.patch_size), "min_tissue": config.min_tissue, "cells": False}
    return register_training(ctx, made, cohorts, Start(), source, ground, embed=embed, parents=(hex_version,), maps=True)


def _ground(ctx: JobContext, maps: list[Prediction], config: Any, bank: Any) -> tuple[Ground, float]:
    """What is trained on, and its pitch: the most common one among the maps. JobRefused NO_MAPS, TOO_FEW_PATIENTS."""
    if not maps:
        said = f"These cohorts have no {KINDS[config.maps]} of this protein model."
        raise JobRefused("NO_MAPS", said, "Make the maps first; dense maps are asked for slide by slide.")
    pitches = [float(one.facts["pitch_um"]) for one in maps]
    pitch = max(sorted(set(pitches)), key=pitches.count)
    ground = Ground([], [], [], [], {}, [])
    for number, one in enumerate(maps):
        ctx.progress(0.15 * number / len(maps), f"reading map {number + 1} of {len(maps)}")
        image, _ = pixels_of(one)
        proteins, _ = proteins_of_map(one, image.markers)
        why = ""
        if abs(image.um_per_px / pitch - 1) > 0.02:
            why = f"It has {image.um_per_px:g} um per cell, the others {pitch:g}."
        elif min(image.values.shape[1:]) < config.crop:
            why = f"It has {image.values.shape[2]} x {image.values.shape[1]} cells, less than a crop of {config.crop}."
        elif not any(name in bank for name in proteins if name):
            why = "None of its markers has an embedding and is unlocked on the card of its protein model."
        if why:
            ground.left_out.append((f"map of {one.slide}", why))
            continue
        ground.images.append(replace(image, um_per_px=pitch))
        ground.proteins.append(proteins)
        ground.patients.append(one.patient.code)
        ground.datasets.append(dataset_of_map(one))
        ground.checksums[f"{one.kind} {one.pk}"] = one.sha256
    patients = len(set(ground.patients))
    if patients < LEAST_PATIENTS:
        why = f" The first that was left out, {ground.left_out[0][0]}: {ground.left_out[0][1]}" if ground.left_out else ""
        said = f"{patients} patients have a map that can be trained on; it takes {LEAST_PATIENTS}.{why}"
        raise JobRefused("TOO_FEW_PATIENTS", said, "Make more maps, or take smaller crops.")
    return ground, pitch


def apply_virtues_map(ctx: JobContext) -> Done:
    """Job predictions.virtues_map. params: slide, version (VirTues). The map of the nearest pitch, if it passes the gate.

    JobRefused NO_MAP, MAP_TOO_COARSE, NO_STANDARD, NO_KNOWN_MARKER, NO_CHANNEL_LEFT, IMAGE_TOO_SMALL, NO_NICHES.
    """
    from ml import families
    from ml.virtues.embedding_files import write_embedding
    from ml.virtues.panel import prepare

    slide = Slide.objects.select_related("sample__patient__cohort").get(pk=ctx.params["slide"])
    version = ModelVersion.objects.get(pk=ctx.params["version"], family=FAMILY)
    found = map_for(slide, version)
    weights, config = load_virtues(version), embed_config(version)
    standard = weights.standards.get(dataset_of_map(found))
    if standard is None:
        said = f"{version} was not trained on maps of {found.version} in {slide.sample.patient.cohort.name}; it knows no means of them."
        raise JobRefused("NO_STANDARD", said, "Train a VirTues on the maps of this cohort.")
    image, virtual = pixels_of(found)
    proteins, locked = proteins_of_map(found, image.markers)
    with model_refusals():
        prepared = prepare(image, proteins, weights.bank, standard)
        prepared = replace(prepared, dropped=tuple((name, locked.get(name, why)) for name, why in prepared.dropped))
        inputs = {str(found.kind): found.sha256, "weights": version.sha256, "proteins of channels": digest(proteins)}
        made = families.runner(FAMILY, "embed")(
            weights.model, prepared, None, config, folder=ctx.workdir / f"virtues-{digest(inputs)[:16]}",
            progress=lambda share, text: ctx.progress(0.05 + 0.9 * share, text),
        )  # fmt: skip
    choice = choose_fold(version, slide.sample.patient, 1)
    in_sample = choice.in_sample or found.in_sample
    about = {
        "version": str(version), "label": version.label, "licence": version.licence, "names": list(prepared.names),
        "proteins": list(prepared.proteins), "dropped": [list(one) for one in prepared.dropped], "shared": {}, "values": "virtual",
        "pitch_um": image.um_per_px, "data_set": dataset_of_map(found), "of": f"{found.kind} of {found.version}",
        "embeddings": version.provenance.get("embeddings", ""), "in_sample": in_sample,
    }  # fmt: skip
    temp = store.new_temp(".h5")
    write_embedding(temp, made, prepared, virtual.step_px0, about, origin=virtual.origin_px0)
    key = f"slides/{slide.pk}/embedding-{version.pk}-{checksum(temp)[:12]}.h5"
    sha = store.save(temp, key)
    facts = {**about, "n_niches": len(made.niches), "dim": made.niches.shape[1], "crop_px": config.crop_px}

    def publish() -> None:
        fields = {
            "job_id": ctx.job_id, "fold": choice.fold, "in_sample": in_sample, "inputs": inputs, "code_version": ctx.code_version,
            "key": key, "sha256": sha, "facts": plain(facts),
        }  # fmt: skip
        publish_of(slide, version, Prediction.Kind.EMBEDDING, fields)

    return Done([OutputSpec("embedding", key, {"sha256": sha, "niches": len(made.niches)})], publish)


def map_for(slide: Slide, version: ModelVersion) -> Prediction:
    """The map of a slide that a version looks at: of the protein models it stands on, if it stands on any, that of the nearest pitch."""
    from ml.virtues.pitch import check_map_pitch

    maps = Prediction.objects.filter(slide=slide, kind__in=KINDS.values()).select_related("version", "patient__cohort").order_by("pk")
    parents = list(version.parents.filter(family="hex"))
    candidates = [one for one in maps if not parents or one.version in parents]
    pitch = float(version.pitch_um or 1)
    found = min(candidates, key=lambda one: abs(float(one.facts["pitch_um"]) / pitch - 1), default=None)
    if found is None:
        of = f" of {parents[0]}" if parents else ""
        raise JobRefused("NO_MAP", f"The slide {slide.name} has no virtual map{of}.", "Run the virtual map first.")
    facts = found.facts
    with model_refusals():
        check_map_pitch(pitch, float(facts["pitch_um"]), facts.get("effective_resolution_um"), float(facts["tile_um"]))
    if abs(float(facts["pitch_um"]) / pitch - 1) > 0.02:
        said = f"The map has {facts['pitch_um']:g} um per cell and {version} was trained at {pitch:g} um."
        raise JobRefused("MAP_PITCH_DIFFERS", said, f"Make a map of {pitch:g} um, or train a VirTues at this pitch.")
    return found
