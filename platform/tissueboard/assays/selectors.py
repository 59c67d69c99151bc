"""Reads of multiplex images and measured labels, always scoped to a user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Q

from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.cohorts.models import Cohort, Patient
from tissueboard.errors import NotVisible
from tissueboard.slides.models import Slide

from .models import Alignment, Assay, CellMask, ChannelProtein, MultiplexImage

if TYPE_CHECKING:
    from ml.multiplex.uniprot import ProteinOf


def images_for(user: Any, *, cohort: Cohort | None = None, state: str | None = None, search: str = "") -> ScopedQuerySet:
    """Multiplex images that the user may see, with sample, patient and cohort. search: part of the image's name or the patient's code."""
    images = MultiplexImage.objects.visible_to(user).select_related("sample__patient__cohort")
    if cohort is not None:
        images = images.filter(sample__patient__cohort=cohort)
    if state:
        images = images.filter(state=state)
    if search.strip():
        images = images.filter(Q(name__icontains=search.strip()) | Q(sample__patient__code__icontains=search.strip()))
    return images


def get_image(user: Any, image_id: int) -> MultiplexImage:
    """One multiplex image with sample, patient and cohort; NotVisible for a stranger."""
    image = images_for(user).filter(pk=image_id).first()
    if image is None:
        raise NotVisible("multiplex image")
    return image


def images_of_patient(user: Any, patient: Patient) -> ScopedQuerySet:
    """The multiplex images of one patient that the user may see, by sample and name."""
    return images_for(user).filter(sample__patient=patient).order_by("sample__day", "sample__code", "name")


def labels_for(user: Any, *, cohort: Cohort | None = None) -> ScopedQuerySet:
    """Measured labels of slides that the user may see, with slide, panel, patient and cohort."""
    assays = Assay.objects.visible_to(user).select_related("panel", "slide", "sample__patient__cohort", "created_by")
    if cohort is not None:
        assays = assays.filter(sample__patient__cohort=cohort)
    return assays.order_by("sample__patient__code", "slide__name", "kind")


def labels_of_slide(user: Any, slide: Slide) -> ScopedQuerySet:
    """The measured labels of one slide that the user may see, by kind."""
    return labels_for(user).filter(slide=slide)


def cell_mask_of(user: Any, image: MultiplexImage) -> CellMask | None:
    """The cells of an image that the user may see; None without any. Their labels: `cells.mask_labels`, their table: `cells.cell_table`."""
    found: CellMask | None = _cells(user, image, CellMask.State.READY).first()
    return found


def waiting_cells_of(user: Any, image: MultiplexImage) -> CellMask | None:
    """A mask of an image that waits for a person, as its findings say."""
    found: CellMask | None = _cells(user, image, CellMask.State.NEEDS_ATTENTION).first()
    return found


def _cells(user: Any, image: MultiplexImage, state: str) -> ScopedQuerySet:
    masks = CellMask.objects.visible_to(user).select_related("created_by", "image__sample__patient__cohort")
    return masks.filter(image=image, state=state, replaced_at__isnull=True)


def proteins_of(image: MultiplexImage, *, nuclear_as_histone: bool = False) -> list[ProteinOf]:
    """(channel, uniprot or None, why) of every channel of an image in the order of its planes: the cohort's table, else the house's.

    nuclear_as_histone: a DNA dye stands for histone H3. Asks no right: the caller holds the image. `ml.multiplex.uniprot.usable` says which
    channels a model can take and refuses an image without any (NO_KNOWN_MARKER); `shared` which have one protein in common.
    """
    from ml.multiplex.uniprot import proteins_of as look_up

    return look_up(image.channels, cohort_proteins(image.sample.patient.cohort), nuclear_as_histone)


def cohort_proteins(cohort: Cohort) -> dict[str, tuple[str | None, str]]:
    """What a cohort says of its channels, by ml.multiplex.uniprot.channel_key: (accession or None, why). Asks no right."""
    rows = ChannelProtein.objects.filter(cohort=cohort, replaced_at__isnull=True, house=False).values_list("key", "uniprot", "note")
    return {key: (uniprot or None, f"Cohort's table{': ' + note if note else ''}.") for key, uniprot, note in rows}


def protein_changes_of(user: Any, cohort: Cohort) -> ScopedQuerySet:
    """What people said of a cohort's channels, newest first; also what was replaced since."""
    return ChannelProtein.objects.visible_to(user).filter(cohort=cohort).select_related("by")


def alignments_of(user: Any, image: MultiplexImage, *, replaced: bool = False) -> ScopedQuerySet:
    """Where an image lies on slides that the user may see, newest first. replaced: earlier ones, too."""
    found = Alignment.objects.visible_to(user).select_related(
        "slide__sample__patient__cohort", "image__sample__patient__cohort", "created_by"
    )
    found = found.filter(image=image)
    return found if replaced else found.filter(replaced_at__isnull=True)


def alignment_of(user: Any, image: MultiplexImage, slide: Slide) -> Alignment | None:
    """Where an image lies on a slide, or None."""
    found: Alignment | None = alignments_of(user, image).filter(slide=slide).first()
    return found
