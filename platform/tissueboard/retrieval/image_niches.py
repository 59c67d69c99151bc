"""The retrieval set of a tissue that VirTues saw: from its embedding to rows of niches."""

from __future__ import annotations

from typing import Any

from tissueboard.assays.models import MultiplexImage
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction
from tissueboard.predictions.refusing import model_refusals
from tissueboard.predictions.virtues_weights import embed_config
from tissueboard.slides.models import Slide
from tissueboard.store import store

from .publishing import publish_niche_set
from .tissues import Tissue, column, is_measured


def make_image_niches(ctx: JobContext) -> Done:
    """Job retrieval.image_niches. params: image (or slide, for a virtual map that VirTues saw), version (virtues).

    A niche's markers are means over it of what its image shows, as share of the image's own 99th percentile: measured for an image, virtual
    for a map; the two kinds are never in one reference.
    """
    from ml.virtues.embed import retrieval_set
    from ml.virtues.embedding_files import read_embedding

    tissue, version = _tissue(ctx.params), ModelVersion.objects.get(pk=ctx.params["version"], family="virtues")
    source = Prediction.objects.filter(**column(tissue), version=version, kind=Prediction.Kind.EMBEDDING).first()
    if source is None or not store.exists(source.key):
        said = f"{tissue.name} has no embedding of {version}."
        raise JobRefused("NO_EMBEDDING", said, "Run the pipeline “virtues” on it first; it makes both.")
    with model_refusals():
        found = read_embedding(store.path(source.key))
        chosen, rows = retrieval_set(found.embedding(), embed_config(version))
    proteins = [dict(zip(_once(found.names), [round(float(v), 5) for v in found.intensity[row]])) for row in rows]
    fields = {
        "job_id": ctx.job_id,
        "fold": source.fold,
        "in_sample": source.in_sample,
        "inputs": {"embedding": source.sha256, "weights": version.sha256},
        "code_version": ctx.code_version,
        "facts": {
            "n_niches": len(found.niches),
            "n_medoids": len(rows),
            "niche_um": float(source.facts["crop_px"] * source.facts["pitch_um"]),
            "values": "measured" if is_measured(tissue) else "virtual",
        },
    }

    def publish() -> None:
        publish_niche_set(tissue, version, chosen, proteins, fields)

    return Done([OutputSpec("niche set", "", {"n_medoids": len(rows)})], publish)


def _tissue(params: dict[str, Any]) -> Tissue:
    model: Any = MultiplexImage if "image" in params else Slide
    found: Tissue = model.objects.select_related("sample__patient").get(pk=params["image" if "image" in params else "slide"])
    return found


def _once(names: tuple[str, ...]) -> list[str]:
    """Channel names as keys: of two channels of one name the second says so."""
    return [name if name not in names[:place] else f"{name} ({place + 1})" for place, name in enumerate(names)]
