"""Virtual staining: a marker that an image lacks, painted by VirTues from those it has, where that is known to work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tissueboard.accounts.audit import record
from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.access import Role, require
from tissueboard.errors import TissueboardError
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.models import Job
from tissueboard.jobs.services import enqueue
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.services import choose_fold
from tissueboard.store import checksum, store

from .models import Prediction
from .publishing import publish_of
from .refusing import model_refusals
from .virtues_apply import facts_of_panel, see
from .virtues_images import accessions_of, image_keys, load_image_source
from .virtues_weights import embed_config, load_virtues

KIND = "predictions.virtues_stain"
# As on predictability cards: below it a marker cannot be chosen (DESIGNS 9).
LEAST_R2 = 0.10
VALUES = "values"
# Deviations of the data set between which a picture is drawn.
DRAWN = (-1.0, 4.0)


@dataclass(frozen=True)
class Stainable:
    """A marker that may be painted. marker: its name where it was measured. r, patients: painted from the others where it was left out, on
    patients held out."""

    protein: str
    marker: str
    r: float
    patients: int


def stainable(version: ModelVersion, image: MultiplexImage) -> list[Stainable]:
    """Markers that the image lacks and whose painting was measured well enough, best first."""
    there = set(accessions_of([image])[image.pk])
    found = [
        Stainable(protein, one.get("marker", protein), one["r"], one["patients"])
        for protein, one in version.metrics.get("stain_check", {}).items()
        if protein not in there and not is_locked(version, protein)
    ]
    return sorted(found, key=lambda one: -one.r)


def is_locked(version: ModelVersion, protein: str) -> bool:
    """Whether a marker may not be painted: nobody measured how well that works, or it does not."""
    one = version.metrics.get("stain_check", {}).get(protein)
    return one is None or one["r"] <= 0 or one["r2"] < LEAST_R2


def ask_stain(user: Any, image: MultiplexImage, version: ModelVersion, protein: str) -> Job:
    """Asks for a virtual stain; asking twice finds the first. An image keeps one per version: another marker replaces it.

    Needs contributor. Errors: NotVisible, RoleMissing; TissueboardError IMAGE_NOT_READY, MARKER_UNKNOWN, MARKER_PRESENT, MARKER_LOCKED.
    """
    patient = image.sample.patient
    require(user, patient.cohort, Role.CONTRIBUTOR)
    check(image, version, protein)
    job = enqueue(
        user,
        KIND,
        {"image": image.pk, "version": version.pk, "protein": protein},
        cohorts=[patient.cohort],
        key=image_keys([image])[image.pk],
    )
    record(user, "ask virtual stain", image, cohort_id=patient.cohort_id, patient_code=patient.code)
    return job


def check(image: MultiplexImage, version: ModelVersion, protein: str) -> None:
    """TissueboardError where a marker cannot be painted on an image."""
    if image.state != MultiplexImage.State.READY:
        told = f"The image {image.name} is not ready: {image.state}."
        raise TissueboardError("IMAGE_NOT_READY", told, "Resolve its findings first.", where="image", status=409)
    if protein not in version.panel:
        told = f"{version} has no embedding of {protein[:20] or 'nothing'}."
        raise TissueboardError("MARKER_UNKNOWN", told, "Choose a protein of its marker embeddings.", where="protein", status=409)
    if protein in accessions_of([image])[image.pk]:
        told = f"{protein} is measured in this image."
        raise TissueboardError("MARKER_PRESENT", told, "Look at the measured one.", where="protein", status=409)
    if is_locked(version, protein):
        one = version.metrics.get("stain_check", {}).get(protein)
        known = f"its R² where it was left out is {one['r2']:.2f}, below {LEAST_R2:.2f}" if one else "nobody measured how well that works"
        told = f"{version} may not paint {protein}: {known}."
        hint = "Train on images that have this marker, with patients held out; its figure is then on the version's page."
        raise TissueboardError("MARKER_LOCKED", told, hint, where="protein", status=409)


def make_stain(ctx: JobContext) -> Done:
    """Job predictions.virtues_stain. params: image, version, protein (an accession of the version's bank)."""
    import h5py

    from ml import families
    from ml.virtues.staining import stain

    source, protein = load_image_source(ctx.params), ctx.params["protein"]
    image, version = source.image, source.version
    check(image, version, protein)
    weights, config = load_virtues(version), embed_config(version)
    ctx.progress(0.0, "reading the image")
    seen = see(source, weights, config.crop_px, with_cells=False)
    with model_refusals():
        painted = stain(
            _on_device(weights.model), seen.prepared.seen(), seen.prepared.embeddings, weights.bank.embedding(protein),
            families.config("virtues", "stain", {"tile": config.crop_px}), lambda share, text: ctx.progress(0.05 + 0.9 * share, text),
        )  # fmt: skip
    known = version.metrics["stain_check"][protein]
    choice = choose_fold(version, image.sample.patient, 1)
    about = {**facts_of_panel(seen, version, source), "protein": protein, "marker": known.get("marker", protein), "check": known}
    temp = store.new_temp(".h5")
    with h5py.File(temp, "w") as file:
        file.create_dataset(VALUES, data=painted, compression="gzip")
        told = {"protein": protein, "version": str(version), "label": version.label, "unit": "deviations of the data set", "virtual": True}
        file.attrs.update({**told, "um_per_px": float(version.pitch_um or 1), "in_sample": choice.in_sample})
    key = f"assays/{image.pk}/virtues/stain-{version.pk}-{protein}-{checksum(temp)[:12]}.h5"
    sha = store.save(temp, key)

    def publish() -> None:
        fields = {
            "job_id": ctx.job_id, "fold": choice.fold, "in_sample": choice.in_sample, "inputs": source.inputs(),
            "code_version": ctx.code_version, "key": key, "sha256": sha, "facts": about,
        }  # fmt: skip
        publish_of(image, version, Prediction.Kind.VIRTUAL_STAIN, fields)

    return Done([OutputSpec("virtual stain", key, {"sha256": sha, "protein": protein})], publish)


def _on_device(model: Any) -> Any:
    import torch

    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def picture_of(found: Prediction) -> bytes:
    """The stain as PNG in grey between DRAWN, for every image the same. TissueboardError OUTPUT_MISSING."""
    import io

    import h5py
    import numpy as np
    from PIL import Image

    try:
        with h5py.File(store.path(found.key), "r") as file:
            values = np.asarray(file[VALUES])
    except (OSError, KeyError) as error:
        raise TissueboardError("OUTPUT_MISSING", "The picture is not in the store.", "Ask for it again.", status=409) from error
    low, high = DRAWN
    grey = (np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(grey).save(out, "PNG")
    return out.getvalue()
