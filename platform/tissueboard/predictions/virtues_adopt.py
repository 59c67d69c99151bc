"""A VirTues version taken into use on cohorts: the means and deviations of their images, as a version of its own on the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.models import Cohort
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import Member, ModelVersion
from tissueboard.model_registry.services import NewVersion, register

from .refusing import model_refusals
from .virtues_images import accessions_of, dataset_of, digest, read_pixels, ready_images, why_not_seen
from .virtues_weights import CROPS, FAMILY, load_virtues


def adopt_virtues(ctx: JobContext) -> Done:
    """Job predictions.adopt_virtues. params: cohorts (ids), version (VirTues), config (of VirtuesEmbedConfig), name.

    A data set is a cohort's images of one technology. The new version is bound to these cohorts and to those that the weights stand on: its
    figures of a private cohort are not everybody's.
    """
    from ml import families
    from ml.virtues.preprocess import Standard

    cohorts = list(Cohort.objects.filter(pk__in=ctx.params["cohorts"]).order_by("pk"))
    version = ModelVersion.objects.get(pk=ctx.params["version"], family=FAMILY)
    with model_refusals():
        crops = {name: value for name, value in version.config.get("embed", {}).items() if name in CROPS}
        config = families.config(FAMILY, "embed", {**crops, **ctx.params.get("config", {})})
    weights = load_virtues(version)
    sets: dict[str, list[MultiplexImage]] = {}
    left_out = []
    ready = ready_images(cohorts)
    proteins = accessions_of(ready)
    for image in ready:
        told = why_not_seen(image, weights.pitch_um, config.crop_px)
        if told is not None or not any(one in weights.bank for one in proteins[image.pk]):
            left_out.append(f"{image.name} {told[1] if told is not None else 'None of its channels has an embedding.'}")
        else:
            sets.setdefault(dataset_of(image), []).append(image)
    n = sum(map(len, sets.values()))
    if not n:
        why = f" The first: {left_out[0]}" if left_out else ""
        raise JobRefused(
            "NO_IMAGES", f"None of these cohorts has an image that {version} can see.{why}", "Bring in images that it can see."
        )
    done = iter(range(n))
    standards = {}
    for name, images in sets.items():

        def pixels(images: list[MultiplexImage] = images) -> Iterator[tuple[Any, Any, Any]]:
            for image in images:
                ctx.progress(0.95 * next(done) / n, f"image {image.name}")
                kept = [place for place, one in enumerate(proteins[image.pk]) if one in weights.bank]
                found = read_pixels(image, kept, weights.pitch_um)
                yield found.markers, found.values, found.tissue

        with model_refusals():
            standards[name] = Standard.of(pixels()).to_json()
    images_of = {name: len(images) for name, images in sets.items()}
    new = NewVersion(
        family=FAMILY,
        name=ctx.params["name"],
        label=version.label,
        config={
            **version.config,
            "embed": config.model_dump(mode="json"),
            "standards": {**version.config.get("standards", {}), **standards},
        },
        key=version.key,
        sha256=version.sha256,
        provenance={
            **{k: version.provenance[k] for k in ("made_at", "embeddings") if k in version.provenance},
            "code_version": ctx.code_version,
            "inputs": {"weights": version.sha256, **{f"multiplex image {i.pk}": i.sha256 for images in sets.values() for i in images}},
            "facts": {
                **{k: v for k, v in version.provenance.get("facts", {}).items() if k in ("membership", "release")},
                "taken into use on": [c.name for c in cohorts], "weights of": str(version), "job": ctx.job_id, "left_out": left_out[:20],
            },
        },
        licence=version.licence,
        metrics={**version.metrics, "images_standardised": n, "images_of": images_of},
        members=_members(version),
        pitch_um=version.pitch_um,
        panel=tuple(version.panel),
        pretraining_overlap=version.pretraining_overlap,
    )  # fmt: skip

    def publish() -> None:
        register(new, cohorts=list(dict.fromkeys([*cohorts, *version.cohorts.all()])), parents=[version])

    return Done([OutputSpec("standard", "", {"images": n, "sha256": digest(standards)})], publish)


def _members(version: ModelVersion) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for fold, seen in Member.objects.filter(version=version).values_list("fold", "patient_hash"):
        found.setdefault(fold, []).append(seen)
    return found
