"""Niche vectors of slides: fitting the reference scales, and making the retrieval set of one slide."""

from __future__ import annotations

import json
from typing import Any

from tissueboard.cohorts.models import Cohort
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.services import NewVersion, hash_of, register, weights_path
from tissueboard.predictions.models import Prediction
from tissueboard.slides.models import Slide
from tissueboard.store import store

from .publishing import publish_niche_set

MODEL_FILE = "niche.json"


def fit_niches(ctx: JobContext) -> Done:
    """Job retrieval.fit_niches. params: cohorts (ids), version (the HEX version whose maps are described), name."""
    from ml import families
    from ml.transport.explain import within_tumour
    from ml.transport.niches import vectors

    cohorts = list(Cohort.objects.filter(pk__in=ctx.params["cohorts"]).order_by("pk"))
    hex_version = ModelVersion.objects.get(pk=ctx.params["version"])
    bags = list(
        Prediction.objects.filter(patient__cohort__in=cohorts, version=hex_version, kind=Prediction.Kind.FEATURE_BAG)
        .select_related("patient")
        .order_by("pk")
    )
    if not bags:
        raise JobRefused("NO_MAPS", "None of these cohorts has a virtual map of this version.", "Run the virtual maps first.")
    config = families.config("niche", "fit", ctx.params.get("config", {}))
    tissues = []
    for i, bag in enumerate(bags):
        ctx.progress(0.8 * i / len(bags), f"niches of slide {i + 1} of {len(bags)}")
        tissues.append(niches_of_bag(bag, config))
    model = families.runner("niche", "fit")(tissues, config)
    apart = within_tumour(((vectors(model, t), t.boxes) for t in tissues), config)
    folder = store.new_temp()
    folder.mkdir(parents=True)
    content = {"model": model.to_json(), "within_tumour": apart.distances.tolist()}
    (folder / MODEL_FILE).write_text(json.dumps(content))
    key = f"models/niche/{ctx.job_id}"
    sha = store.save(folder, key)
    simulated = all(c.simulated for c in cohorts)
    new = NewVersion(
        family="niche",
        name=ctx.params["name"],
        label=ModelVersion.Label.SIMULATED if simulated else ModelVersion.Label.TRAINED_HERE,
        config=config.model_dump(mode="json"),
        key=key,
        sha256=sha,
        provenance={
            "code_version": ctx.code_version,
            "inputs": {f"feature bag {b.pk}": b.sha256 for b in bags},
            "facts": {"cohorts": [c.name for c in cohorts], "job": ctx.job_id},
        },
        licence="Apache-2.0",
        metrics={"n_tissues": model.n_tissues, "dimensions": model.dim, "within_tumour_pieces": len(apart.distances)},
        members={0: [hash_of(b.patient) for b in bags]},
        pitch_um=hex_version.pitch_um,
        panel=tuple(hex_version.panel),
    )

    def publish() -> None:
        register(new, cohorts=[] if simulated else cohorts, parents=[hex_version])

    return Done([OutputSpec("model", key, {"sha256": sha})], publish)


def make_niches(ctx: JobContext) -> Done:
    """Job retrieval.niches. params: slide, version (niche). Its parent is the HEX version whose map is described."""
    from ml.transport.niches import summarise, vectors

    slide = Slide.objects.select_related("sample__patient").get(pk=ctx.params["slide"])
    version = ModelVersion.objects.get(pk=ctx.params["version"])
    hex_version = version.parents.get(family="hex")
    bag = Prediction.objects.filter(slide=slide, version=hex_version, kind=Prediction.Kind.FEATURE_BAG).first()
    if bag is None:
        raise JobRefused("NO_MAP", f"The slide {slide.name} has no virtual map of {hex_version}.", "Run the virtual map first.")
    model, _ = load_model(version)
    niches = niches_of_bag(bag, model.config)
    scaled = vectors(model, niches)
    chosen = summarise(scaled, niches.boxes, model.config)
    ctx.progress(0.9, f"{len(chosen.weights)} of {len(niches)} niches stand for the tissue")
    by_box = {tuple(box): row for row, box in enumerate(niches.boxes.tolist())}
    names = hex_version.panel
    means = niches.protein_mean[[by_box[tuple(box)] for box in chosen.boxes.tolist()]]
    proteins = [{name: round(float(v), 5) for name, v in zip(names, row)} for row in means]
    fields = {
        "job_id": ctx.job_id,
        "fold": bag.fold,
        "in_sample": bag.in_sample,
        "inputs": {"feature bag": bag.sha256, "weights": version.sha256},
        "code_version": ctx.code_version,
        "facts": {"n_niches": len(niches), "n_medoids": len(proteins), "niche_um": model.config.niche_um},
    }

    def publish() -> None:
        publish_niche_set(slide, version, chosen, proteins, fields)

    return Done([OutputSpec("niche set", "", {"n_medoids": len(proteins)})], publish)


def niches_of_bag(bag: Prediction, config: Any) -> Any:
    """ml.transport.niches.Niches of a feature bag that a HEX job wrote (virtual proteins and morphology lie beside the features)."""
    import h5py
    import numpy as np

    from ml.slides.features import read_bag
    from ml.transport.errors import TransportError
    from ml.transport.niches import all_niches

    path = store.path(bag.key)
    grid = read_bag(path).grid
    with h5py.File(path, "r") as file:
        proteins, morphology = np.asarray(file["values"]), np.asarray(file["morphology"])
    try:
        return all_niches(grid, proteins, morphology, config)
    except TransportError as error:
        raise JobRefused(error.code.upper(), error.sentence, error.hint) from error


def load_model(version: ModelVersion) -> tuple[Any, list[float]]:
    """(NicheModel, ascending distances between pieces of one tumour) of a niche version."""
    from ml.transport.niches import NicheModel

    content = json.loads((weights_path(version) / MODEL_FILE).read_text())
    return NicheModel.from_json(content["model"]), content["within_tumour"]
