"""A multiplex image as VirTues takes it: its proteins, its cells, its data set, its pixels at the model's pitch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tissueboard.assays.models import CellMask, MultiplexImage
from tissueboard.assays.selectors import cohort_proteins
from tissueboard.cohorts.models import Cohort
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import ModelVersion
from tissueboard.store import store

if TYPE_CHECKING:
    from ml import types

# Values (channels x pixels) that one process takes at once: 4 GB, of which there are up to three copies.
MOST_VALUES = 1_000_000_000


def dataset_of(image: MultiplexImage) -> str:
    """The data set by whose means and deviations an image is standardised: its cohort's images of the same technology."""
    return f"cohort {image.sample.patient.cohort_id} {image.technology}"


def ready_images(cohorts: Collection[Cohort]) -> list[MultiplexImage]:
    """The images of cohorts that can be read, patient by patient."""
    images = MultiplexImage.objects.filter(sample__patient__cohort__in=cohorts, state=MultiplexImage.State.READY)
    return list(images.select_related("sample__patient__cohort").order_by("sample__patient__code", "pk"))


def accessions_of(images: Iterable[MultiplexImage]) -> dict[int, list[str | None]]:
    """By image the protein of every channel, None where none is known. A query per cohort."""
    from ml.multiplex.uniprot import proteins_of

    images = list(images)
    cohorts = {image.sample.patient.cohort_id: image.sample.patient.cohort for image in images}
    said = {pk: cohort_proteins(cohort) for pk, cohort in cohorts.items()}
    return {image.pk: [one.uniprot for one in proteins_of(image.channels, said[image.sample.patient.cohort_id])] for image in images}


def image_keys(images: Iterable[MultiplexImage]) -> dict[int, str]:
    """By image what makes it another input: pixels, proteins of its channels, cells. A query per cohort and one for cells."""
    images = list(images)
    proteins = accessions_of(images)
    cells = CellMask.objects.filter(image__in=images, state=CellMask.State.READY, replaced_at__isnull=True)
    masks = {image: f"{mask}{table}" for image, mask, table in cells.values_list("image_id", "sha256", "table_sha256")}
    keys = {}
    for image in images:
        beside = digest([image.technology, proteins[image.pk], masks.get(image.pk, "")])
        keys[image.pk] = f"{image.sha256}:{beside[:16]}"
    return keys


@dataclass(frozen=True)
class ImageSource:
    """What an output of an image was made from. proteins: per channel. cells: None without any."""

    image: MultiplexImage
    version: ModelVersion
    proteins: tuple[str | None, ...]
    cells: CellMask | None

    def inputs(self) -> dict[str, str]:
        """{name: checksum}."""
        named = {"multiplex image": self.image.sha256, "proteins of channels": digest(self.proteins), "weights": self.version.sha256}
        named["standard"] = digest(self.version.config.get("standards", {}).get(dataset_of(self.image), {}))
        if self.cells is not None:
            named |= {"cell mask": self.cells.sha256, "cell table": self.cells.table_sha256}
        return {name: value for name, value in named.items() if value}


def load_image_source(params: dict[str, Any]) -> ImageSource:
    """Image and version named by a job's params; JobRefused IMAGE_NOT_READY."""
    image = MultiplexImage.objects.select_related("sample__patient__cohort").get(pk=params["image"])
    if image.state != MultiplexImage.State.READY:
        raise JobRefused("IMAGE_NOT_READY", f"The image {image.name} is not ready: {image.state}.", "Resolve its findings first.")
    version = ModelVersion.objects.get(pk=params["version"], family="virtues")
    cells = CellMask.objects.filter(image=image, state=CellMask.State.READY, replaced_at__isnull=True).first()
    return ImageSource(image, version, tuple(accessions_of([image])[image.pk]), cells)


def why_not_seen(image: MultiplexImage, pitch_um: float, crop_px: int) -> tuple[str, str, str] | None:
    """(code, sentence, hint) where an image cannot be read at a pitch, or holds no crop there; None where it can."""
    from ml.multiplex.read import MAX_UPSAMPLING

    mpp = float(image.mpp or 0)
    if mpp > pitch_um * MAX_UPSAMPLING:
        said = f"The image {image.name} has {mpp:.4g} um per px, coarser than the {pitch_um:g} um per px that the model was made for."
        return "PITCH_TOO_FINE", said, "Use a model that was trained at a coarser pitch; a picture blown up is no measurement."
    width, height = (round(side * mpp / pitch_um) for side in (image.width, image.height))
    if min(width, height) < crop_px:
        said = f"The image {image.name} has {width} x {height} px at {pitch_um:g} um per px, less than a crop of {crop_px} px."
        return "IMAGE_TOO_SMALL", said, f"It needs at least {crop_px * pitch_um:g} um in both directions."
    return None


def read_pixels(image: MultiplexImage, channels: Sequence[int], pitch_um: float, mask: Any = None) -> types.MultiplexImage:
    """Some channels at a pitch, with the tissue by Otsu's threshold on them. mask: (height, width) labels of level 0 or None.

    JobRefused IMAGE_TOO_LARGE; SlideError as ml.multiplex.read.
    """
    from ml.multiplex.read import read_image
    from ml.virtues.preprocess import tissue_mask

    pixels = (image.width * float(image.mpp or 0) / pitch_um) * (image.height * float(image.mpp or 0) / pitch_um)
    if pixels * len(channels) > MOST_VALUES:
        said = f"The image {image.name} has {pixels / 1e6:.0f} million px at {pitch_um:g} um per px in {len(channels)} channels."
        most = f"One process takes {MOST_VALUES / len(channels) / 1e6:.0f} million px of so many channels; give the image in parts."
        raise JobRefused("IMAGE_TOO_LARGE", said, most)
    found = read_image(store.path(image.key), um_per_px=pitch_um, channels=channels, mask=mask)
    return replace(found, tissue=tissue_mask(found.values))


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
