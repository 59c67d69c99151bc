"""A VirTues of random weights in milliseconds, and simulated multiplex images of a few patients in the store. Nothing of it is trained."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

SIDE = 128
CROP = 32
NETWORK = {
    "model_dim": 16, "feedforward_dim": 16, "encoder_pattern": "hv", "decoder_pattern": "f", "num_encoder_heads": 2,
    "num_decoder_heads": 2, "marker_embedding_dim": 8, "patch_size": 8,
}  # fmt: skip
EMBED = {"crop_px": CROP, "cell_stride_px": 24, "cell_pad_px": 24, "min_tissue": 0.1}
TRAINING = {
    "network": NETWORK, "crop": CROP, "subimage": 64, "subimages": 1, "epochs": 1, "min_tissue": 0.1, "batch": 8, "held_out": 0.25,
}  # fmt: skip


@lru_cache(maxsize=8)
def field(seed: int, panel: str = "broad") -> Any:
    """ml.simulate's image of one field, 128 px of 1 um."""
    from ml.simulate.multiplex import MultiplexConfig, simulate_multiplex

    return simulate_multiplex(MultiplexConfig(size_px=SIDE, panel=panel), seed)


def bank() -> Any:
    """Random embeddings of what the house takes the simulator's channels for."""
    from ml.multiplex.uniprot import proteins_of
    from ml.simulate.multiplex_panel import PANELS, panel_markers
    from tissueboard.predictions.virtues_bank import random_bank

    names = {marker.name for panel in PANELS for marker in panel_markers(panel)}
    return random_bank({one.uniprot for one in proteins_of(sorted(names)) if one.uniprot}, NETWORK["marker_embedding_dim"])


def released(name: str = "tiny") -> Any:
    """A registered version of random weights, as `add_virtues` makes it: without means and deviations of any cohort."""
    import torch

    from ml.virtues.config import VirtuesConfig
    from ml.virtues.model import VirTues
    from ml.virtues.released import save_released
    from tissueboard.model_registry.services import NewVersion, register
    from tissueboard.store import store

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = VirTues(VirtuesConfig(**NETWORK)).eval()
    folder = store.new_temp()
    known = bank()
    provenance = save_released(model, known, folder, pitch_um=1.0, code_version="test", inputs={}, facts={"membership": "unknown"})
    key = f"models/virtues/{name}"
    sha = store.save(folder, key)
    new = NewVersion(
        "virtues", name, "released", {"network": model.config.model_dump(mode="json"), "pitch_um": 1.0, "embed": EMBED}, key, sha,
        {k: provenance[k] for k in ("made_at", "embeddings", "facts")}, "MIT", {}, {}, 1.0, tuple(known.embeddings), "unknown",
    )  # fmt: skip
    return register(new, cohorts=[], current=False)


def adopted(cohort: Any, name: str = "adopted") -> Any:
    """A version with means and deviations of a cohort's images, current there."""
    from tissueboard.model_registry.models import ModelVersion

    run("predictions.adopt_virtues", cohorts=[cohort.pk], version=released(f"{name} weights").pk, name=name, config=EMBED)
    return ModelVersion.objects.get(family="virtues", name=name)


def image_of(patient: Any, seed: int, panel: str = "broad", *, cells: bool = False, empty: tuple[str, ...] = ()) -> Any:
    """A ready multiplex image of the simulator on a new sample of the patient, as an import leaves it. empty: channels without a signal."""
    import hashlib

    from ml.multiplex.zarr_pyramid import write_pyramid
    from tissueboard.assays.models import MultiplexImage
    from tissueboard.cohorts.models import Sample
    from tissueboard.store import checksum, store

    m = field(seed, panel)
    picture = m.image.copy()
    for name in empty:
        picture[m.names.index(name)] = 0
    sample = Sample.objects.create(patient=patient, code=f"{patient.code}-MX{seed}", day=0.0)
    key = f"assays/tiny-{patient.pk}-{seed}-{panel}/image.zarr"
    store.path(key).parent.mkdir(parents=True, exist_ok=True)
    facts = write_pyramid(store.path(key), picture.shape, picture.dtype, lambda c: iter([picture[c]]), m.names, 1.0)
    image = MultiplexImage.objects.create(
        sample=sample, name=f"MX-{sample.pk}", technology="imc", state="ready", channels=list(m.names), mpp=1.0, mpp_source="file",
        width=SIDE, height=SIDE, dtype="float32", key=key, sha256=checksum(store.path(key)), simulated=True,
        sealed_sha256=hashlib.sha256(f"{patient.code} {seed} {panel}".encode()).hexdigest(), facts={"signal": facts, "format": "OME-TIFF"},
    )  # fmt: skip
    if cells:
        _cells(image, m)
    return image


def _cells(image: Any, m: Any) -> None:
    import tempfile

    from ml.simulate.multiplex_files import write_multiplex
    from tissueboard.assays.cells import CellsAsked, add_cells

    with tempfile.TemporaryDirectory() as folder:
        files = write_multiplex(folder, "field", m)
        add_cells(None, image, files.mask, files.cells, CellsAsked(confirmed=True))


def run(kind: str, **params: Any) -> Any:
    """The job done here and now, by its handler; the job as it ended."""
    from tissueboard.jobs.services import enqueue

    return done(enqueue(None, kind, params))


def done(job: Any) -> Any:
    """A queued job brought to its end in this process."""
    from django.test import override_settings

    from tissueboard.jobs.execution import execute

    # The heart beats on a connection of its own, which sees nothing of a test's transaction: on a slow day the job would be taken for lost.
    with override_settings(JOBS_HEARTBEAT_SECONDS=3600):
        execute(job.pk, job.attempt, worker="test")
    job.refresh_from_db()
    return job
