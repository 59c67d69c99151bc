"""Hand-made niche sets of few dimensions on slides and images of a cohort, under versions of their own."""

from typing import Any

import numpy as np

from ml.types import NicheSet

DIM, NICHES = 6, 4


def niche_version(people: Any, name: str, family: str = "niche") -> Any:
    """A version whose fitted scales are those of the small world; nobody's data is in it."""
    from tissueboard.model_registry.models import ModelVersion

    like = people.versions["niche"]
    made = ModelVersion.objects.create(
        family=family, name=name, label=like.label, config={"niche_um": 128.0}, key=like.key, sha256=like.sha256,
        provenance={}, licence="Apache-2.0", panel=like.panel,
    )  # fmt: skip
    made.parents.set([people.versions["hex"]])
    return made


def niches_at(place: float, seed: int = 0, n: int = NICHES) -> tuple[NicheSet, list[dict[str, float]]]:
    """A set around (place, 0, 0 ...): the nearer two places are, the nearer the sets."""
    rng = np.random.default_rng(seed)
    vectors = 0.05 * rng.standard_normal((n, DIM))
    vectors[:, 0] += place
    boxes = np.column_stack([np.arange(n) * 256.0, np.zeros(n), np.full((n, 2), 256.0)])
    means = [{"CD8": place / 10, "CD68": 0.5, "Pan-Cytokeratin": 0.2, "Mac2/Galectin-3": 0.1} for _ in range(n)]
    return NicheSet(vectors.astype(np.float32), np.full(n, 1 / n), boxes), means


def slide_of(cohort: Any, code: str, **fields: Any) -> Any:
    """A ready slide of a (new) patient; its files are nobody's."""
    from tissueboard.cohorts.models import Patient, Sample
    from tissueboard.slides.models import Slide

    clinical = fields.pop("clinical", {})
    patient, _ = Patient.objects.get_or_create(cohort=cohort, code=code, defaults={"clinical": clinical})
    sample = Sample.objects.create(patient=patient, code=f"S{patient.samples.count()}")
    number = Slide.objects.count()
    ready = {"state": "ready", "mpp": 0.5, "width": 1120, "height": 1120, "working_key": f"none/{number}", "mpp_source": "file"}
    ready |= {"sealed_sha256": f"a{number:063d}", "working_sha256": f"b{number:063d}"}
    return Slide.objects.create(sample=sample, name=f"{code}-{number}", **ready | fields)


def readable(like: Any, number: int) -> dict[str, Any]:
    """Fields of a slide that opens: the file of another one with a few more bytes behind it, as a file of its own."""
    import hashlib

    from tissueboard.store import store

    key = f"small/like-{like.pk}-{number}.tif"
    content = store.path(like.working_key).read_bytes() + bytes([number]) * 16
    store.path(key).write_bytes(content)
    size = {name: getattr(like, name) for name in ("width", "height", "mpp")}
    return {"working_key": key, "working_sha256": hashlib.sha256(content).hexdigest(), **size}


def image_of(cohort: Any, code: str, **fields: Any) -> Any:
    """A ready multiplex image of a (new) patient, without a pyramid."""
    from tissueboard.assays.models import MultiplexImage
    from tissueboard.cohorts.models import Patient, Sample

    patient, _ = Patient.objects.get_or_create(cohort=cohort, code=code)
    sample, _ = Sample.objects.get_or_create(patient=patient, code="M")
    number = MultiplexImage.objects.count()
    signal = [{"low": 0.0, "high": 1.0, "min": 0.0, "max": 2.0}] * 2
    ready = {"state": "ready", "mpp": 1.0, "width": 512, "height": 512, "key": f"none/image-{number}", "sha256": "e" * 64}
    ready |= {"channels": ["DNA", "CD8"], "facts": {"signal": signal, "n_channels": 2}}
    return MultiplexImage.objects.create(sample=sample, name=f"{code}-M{number}", sealed_sha256=f"c{number:063d}", **ready | fields)


def embed(people: Any, tissue: Any, version: Any, place: float, seed: int = 0) -> Any:
    """Publishes a niche set of a tissue."""
    from tissueboard.retrieval.publishing import publish_niche_set

    fields = {"job": people.lung.jobs["done"], "inputs": {}, "code_version": "test"}
    return publish_niche_set(tissue, version, *niches_at(place, seed), fields)


def row_of_tissues(people: Any, version: Any, n: int, cohort: Any = None) -> list[Any]:
    """n slides of n patients, each a little farther from the first."""
    cohort = cohort or people.lung.cohort
    slides = [slide_of(cohort, f"{cohort.name}-{i:03}", site=f"site {i % 2}") for i in range(n)]
    for i, slide in enumerate(slides):
        embed(people, slide, version, float(i), seed=i)
    return slides
