"""Pretraining a VirTues on the multiplex images of some cohorts, held out by patient, from the start or from a version that is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.models import Cohort
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import Member, ModelVersion
from tissueboard.model_registry.services import MEMBERSHIP_SALT, NewVersion, register
from tissueboard.store import store

from .plain import plain
from .refusing import model_refusals
from .virtues_bank import bank_for
from .virtues_figures import reconstruction
from .virtues_images import accessions_of, dataset_of, read_pixels, ready_images, why_not_seen
from .virtues_weights import FAMILY, embed_settings, load_virtues

LEAST_PATIENTS = 2


@dataclass(frozen=True)
class Start:
    """What a training goes on from. seen: hashes of the patients that it saw."""

    model: Any = None
    version: ModelVersion | None = None
    seen: tuple[str, ...] = ()


@dataclass
class Ground:
    """Images read for a training, as memory maps. left_out: (image, why)."""

    images: list[Any]
    proteins: list[list[str | None]]
    patients: list[str]
    datasets: list[str]
    checksums: dict[str, str]
    left_out: list[tuple[str, str]]


def fit_virtues(ctx: JobContext) -> Done:
    """Job predictions.fit_virtues. params: cohorts (ids), config (of VirtuesPretrainConfig), name; start: id of a VirTues version to go on
    from, bank: id of one whose marker embeddings are taken (both optional; a start brings its own)."""
    from ml import families

    cohorts = list(Cohort.objects.filter(pk__in=ctx.params["cohorts"]).order_by("pk"))
    with model_refusals():
        config = families.config(FAMILY, "pretrain", ctx.params.get("config", {}))
    start = start_of(ctx.params.get("start"))
    images = ready_images(cohorts)
    known = {one for channels in accessions_of(images).values() for one in channels if one}
    source = start.version or (ModelVersion.objects.get(pk=ctx.params["bank"], family=FAMILY) if ctx.params.get("bank") else None)
    with model_refusals():
        bank = bank_for(source, cohorts, known, config.network.marker_embedding_dim)
    ground = read_ground(ctx, images, config, set(bank.embeddings), 0.15)
    made = train(ctx, "pretrain", ground, config, bank, start)
    return register_training(ctx, made, cohorts, start, source, ground, embed=embed_settings(config.crop, config.network.patch_size))


def start_of(version_id: int | None) -> Start:
    """The version that a training goes on from, with whom it saw."""
    if version_id is None:
        return Start()
    version = ModelVersion.objects.get(pk=version_id, family=FAMILY)
    seen = tuple(Member.objects.filter(version=version).values_list("patient_hash", flat=True))
    return Start(load_virtues(version).model, version, seen)


def read_ground(ctx: JobContext, images: list[MultiplexImage], config: Any, bank: set[str], share: float) -> Ground:
    """Reads the channels that the bank knows of every image at the training's pitch into files of the job. Images that cannot be read so
    are left out and said. JobRefused TOO_FEW_PATIENTS."""
    ground, folder = Ground([], [], [], [], {}, []), ctx.workdir / "images"
    folder.mkdir(parents=True, exist_ok=True)
    known = accessions_of(images)
    for number, image in enumerate(images):
        ctx.progress(share * number / len(images), f"reading image {number + 1} of {len(images)}")
        proteins = known[image.pk]
        kept = [place for place, one in enumerate(proteins) if one in bank]
        told = why_not_seen(image, config.pitch_um, config.crop)
        if told is not None or not kept:
            ground.left_out.append((image.name, told[1] if told is not None else "None of its channels has an embedding."))
            continue
        with model_refusals():
            ground.images.append(_mapped(folder / f"{image.pk}-{image.sha256[:12]}", image, kept, config.pitch_um))
        ground.proteins.append([proteins[place] for place in kept])
        ground.patients.append(image.sample.patient.code)
        ground.datasets.append(dataset_of(image))
        ground.checksums[f"multiplex image {image.pk}"] = image.sha256
    patients = len(set(ground.patients))
    if patients < LEAST_PATIENTS:
        said = f"{patients} patients have an image that can be trained on; it takes {LEAST_PATIENTS}."
        why = f" The first that was left out, {ground.left_out[0][0]}: {ground.left_out[0][1]}" if ground.left_out else ""
        raise JobRefused("TOO_FEW_PATIENTS", f"{said}{why}", "Bring in more images, or name the proteins of their channels.")
    return ground


def _mapped(folder: Path, image: MultiplexImage, channels: list[int], pitch_um: float) -> Any:
    """An image as ml takes it, its pixels in a file that is read where they are needed; read once, whatever the attempt."""
    import numpy as np

    from ml.types import MultiplexImage as Pixels

    values, tissue, facts = folder.with_suffix(".npy"), folder.with_suffix(".tissue.npy"), folder.with_suffix(".json")
    asked = {"channels": channels, "pitch_um": pitch_um, "names": [image.channels[i] for i in channels]}
    if not facts.is_file() or json.loads(facts.read_text()) != asked:
        found = read_pixels(image, channels, pitch_um)
        np.save(values, found.values)
        np.save(tissue, found.tissue)
        facts.write_text(json.dumps(asked))
    return Pixels(np.load(values, mmap_mode="r"), tuple(asked["names"]), pitch_um, tissue=np.load(tissue))


@dataclass(frozen=True)
class Made:
    """A finished training. figures: reconstruction of held-out patients; checks: what is known of painting each marker."""

    result: Any
    figures: dict[str, Any]
    checks: dict[str, Any]


def train(ctx: JobContext, task: str, ground: Ground, config: Any, bank: Any, start: Start) -> Made:
    """Trains and measures. Patients whom the start saw are never held out: their figures would be in-sample."""
    from ml import families
    from ml.training.splits import patient_hash
    from ml.virtues.train import split_patients

    seen = {code for code in set(ground.patients) if patient_hash(code, MEMBERSHIP_SALT) in start.seen}
    with model_refusals():
        split = None
        if seen and not config.leave_out:
            sides = split_patients(ground.patients, ground.datasets, config)
            split = {code: "test" if code in sides.held_out and code not in seen else "train" for code in set(ground.patients)}
        result = families.runner(FAMILY, task)(
            ground.images, ground.proteins, ground.patients, ground.datasets, config, bank,
            progress=lambda share, text: ctx.progress(0.15 + 0.65 * share, text),
            record=ctx.curve, checkpoint_dir=ctx.workdir, start=start.model, split=split,
        )  # fmt: skip
        figures, checks = reconstruction(result, seen, lambda share, text: ctx.progress(0.8 + 0.15 * share, text))
    return Made(result, figures, checks)


def register_training(
    ctx: JobContext, made: Made, cohorts: list[Cohort], start: Start, source: ModelVersion | None, ground: Ground, *,
    embed: dict[str, Any], parents: tuple[ModelVersion, ...] = (), maps: bool = False,
) -> Done:  # fmt: skip
    """Saves the weights and registers the version. source: whose marker embeddings were taken. maps: trained on virtual
    maps; such a version is taken only where somebody chooses it."""
    from ml.virtues.weights import save_fit

    result, config = made.result, made.result.config
    started = start.version
    simulated = all(c.simulated for c in cohorts) and (started is None or started.label == ModelVersion.Label.SIMULATED)
    label = ModelVersion.Label.SIMULATED if simulated else ModelVersion.Label.TRAINED_HERE
    inputs = ground.checksums | {f"weights of {one}": one.sha256 for one in dict.fromkeys((started, source, *parents)) if one is not None}
    facts = {"cohorts": [c.name for c in cohorts], "job": ctx.job_id, "left_out": [" ".join(one) for one in ground.left_out[:20]]}
    folder = store.new_temp()
    provenance = save_fit(
        result, folder, salt=MEMBERSHIP_SALT, code_version=ctx.code_version, label=label, inputs=inputs, facts=facts, seen_before=start.seen
    )
    key = f"models/virtues/{ctx.job_id}"
    sha = store.save(folder, key)
    new = NewVersion(
        family=FAMILY,
        name=ctx.params["name"],
        label=label,
        config={**config.model_dump(mode="json"), "embed": embed, "maps": maps},
        key=key,
        sha256=sha,
        provenance={k: provenance[k] for k in ("made_at", "code_version", "inputs", "embeddings", "facts")},
        licence=started.licence if started is not None else "Apache-2.0",
        metrics=plain({**result.metrics(), "images_left_out": len(ground.left_out), **made.figures, "stain_check": made.checks}),
        members=dict(enumerate(provenance["membership"])),
        pitch_um=config.pitch_um,
        panel=result.proteins,
        pretraining_overlap=started.pretraining_overlap if started is not None else "no",
    )

    def publish() -> None:
        bound = [] if simulated else dict.fromkeys([*cohorts, *(started.cohorts.all() if started is not None else ())])
        register(new, cohorts=bound, parents=[one for one in (started, *parents) if one is not None], current=not maps)

    return Done([OutputSpec("model", key, {"sha256": sha, "seconds": result.seconds})], publish)
