"""Placing a multiplex image on a slide of the same patient: by a matrix or by landmarks; an earlier place is kept as history.

The matrix goes from pixels of the image's finest level to px0 of the working slide, both counted from the corner of the first pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from ml.slides.findings import Finding, FindingCode, Severity, SlideError
from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.errors import NotVisible
from tissueboard.slides.models import Slide
from tissueboard.slides.region_imports import origin_of
from tissueboard.slides.regions import need_ready
from tissueboard.slides.selectors import slides_of_patient
from tissueboard.slides.tiling import open_working
from tissueboard.store import store

from .errors import AssayCode, AssayRefused, refused
from .models import Alignment, MultiplexImage

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LANDMARKS = 200
PICTURE_PX = 900
MARGIN = 0.05
MAX_BOX = 4.0  # of the slide's side


def slides_to_place_on(user: Any, image: MultiplexImage) -> list[Slide]:
    """The ready slides of the image's patient that the user may see, those of its sample first."""
    slides = [s for s in slides_of_patient(user, image.sample.patient) if s.state == Slide.State.READY]
    return sorted(slides, key=lambda slide: slide.sample_id != image.sample_id)


def slide_to_place_on(user: Any, image: MultiplexImage, slide_id: int) -> Slide:
    """One of them; NotVisible for another."""
    found = next((slide for slide in slides_to_place_on(user, image) if slide.pk == slide_id), None)
    if found is None:
        raise NotVisible("slide of this patient")
    return found


def place_image(
    user: Any, image: MultiplexImage, slide: Slide, *, matrix: Any = None, landmarks: Sequence[Any] | None = None, whole_file: bool = False,
    dry_run: bool = False,
) -> Alignment:  # fmt: skip
    """Says where an image lies on a slide. Needs contributor (user None: the house itself).

    matrix: 2 x 3 numbers; or landmarks: pairs {image: [x, y], slide: [x, y]}, at least three. whole_file: the slide's pixels start at the
    corner of the whole original (OpenSlide), not of its scanned part. dry_run: the row is not kept (its pk is None).
    Errors: NotVisible, RoleMissing, SLIDE_NOT_READY and AssayRefused IMAGE_NOT_READY (409), PATIENT_DISAGREES, NOTHING_GIVEN,
    ALIGNMENT_GIVEN_TWICE, and those of ml.multiplex.align (LANDMARKS_TOO_FEW, LANDMARKS_COLLINEAR, ALIGNMENT_INVALID, ALIGNMENT_OUTSIDE).
    """
    if user is not None:
        require(user, image.sample.patient.cohort, Role.CONTRIBUTOR)
    made = unsaved(image, slide, matrix=matrix, landmarks=landmarks, whole_file=whole_file)
    made.created_by = user
    if not dry_run:
        with transaction.atomic():
            MultiplexImage.objects.select_for_update().get(pk=image.pk)
            Alignment.objects.filter(image=image, slide=slide, replaced_at__isnull=True).update(replaced_at=timezone.now())
            made.save()
            record(user, "place image on slide", made, cohort_id=image.sample.patient.cohort_id, patient_code=image.sample.patient.code)
    return made


def unsaved(
    image: MultiplexImage, slide: Slide, *, matrix: Any = None, landmarks: Sequence[Any] | None = None, whole_file: bool = False
) -> Alignment:
    """The row that `place_image` would keep; checks no right. Errors: as there."""
    from ml.multiplex import align

    _fit_each_other(image, slide)
    if (matrix is None) == (landmarks is None):
        if matrix is None:
            raise AssayRefused(AssayCode.NOTHING_GIVEN, "Neither a matrix nor landmarks were given.", "Give one of the two.")
        raise AssayRefused(AssayCode.ALIGNMENT_GIVEN_TWICE, "A matrix and landmarks were given.", "Give one of the two.")
    x, y = origin_of(slide, whole_file)
    residual, pairs = None, []
    try:
        if landmarks is not None:
            ours, theirs = _pairs(landmarks)
            fitted = align.fit_affine(ours, [[a - x, b - y] for a, b in theirs], float(slide.mpp or 1))
            matrix, residual = fitted.matrix, fitted.residual_um
            pairs = [
                {"image": list(p), "slide": [q[0] - x, q[1] - y], "off_um": off} for p, q, off in zip(ours, theirs, fitted.residuals_um)
            ]
            matrix = align.checked_matrix(matrix)
        else:
            matrix = align.checked_matrix(matrix)
            matrix[:, 2] -= (x, y)
        facts = align.facts_of(matrix, float(image.mpp or 1), float(slide.mpp or 1), (image.width, image.height))
        findings = align.alignment_findings(facts, residual, (slide.width, slide.height))
    except SlideError as error:
        raise refused(error) from error
    if wrong := next((one for one in findings if one.severity == Severity.ERROR), None):
        raise AssayRefused(wrong.code, wrong.sentence, wrong.hint)
    return Alignment(
        image=image, slide=slide, matrix=matrix.tolist(), landmarks=pairs, residual_um=residual,
        facts=facts | {"image_sha256": image.sha256, "slide_sha256": slide.working_sha256},
        findings=[one.to_dict() for one in (*findings, *_sections(image, slide))],
    )  # fmt: skip


def remove_place(user: Any, alignment: Alignment) -> None:
    """Says that an image does not lie there; the row stays as history. Needs contributor."""
    patient = alignment.image.sample.patient
    require(user, patient.cohort, Role.CONTRIBUTOR)
    with transaction.atomic():
        Alignment.objects.filter(pk=alignment.pk, replaced_at__isnull=True).update(replaced_at=timezone.now())
        record(user, "remove place of image", alignment, cohort_id=patient.cohort_id, patient_code=patient.code)


def picture_box(alignment: Alignment) -> tuple[float, float, float, float]:
    """What the checking pictures show: the image's box on the slide with a margin, x, y, width, height in px0."""
    x, y, width, height = alignment.facts["box"]
    return x - MARGIN * width, y - MARGIN * height, width * (1 + 2 * MARGIN), height * (1 + 2 * MARGIN)


def slide_picture(alignment: Alignment) -> bytes:
    """JPEG of the slide in `picture_box`, at most 900 px wide or high. TissueboardError where the slide cannot be read."""
    import io

    from PIL import Image

    x, y, width, height = picture_box(alignment)
    if max(width, height) > MAX_BOX * max(alignment.slide.width, alignment.slide.height):
        sentence = "Placed like this, the image is many times as large as the slide."
        hint = "Check the matrix: it goes from pixels of the image to those of the slide."
        raise AssayRefused(FindingCode.ALIGNMENT_SCALE, sentence, hint)
    step, cols, rows = _picture_size(width, height)
    with open_working(alignment.slide) as opened:
        try:
            pixels = opened.read_scaled(x, y, cols, rows, step)
        except SlideError as error:
            raise refused(error, 422) from error
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=85)
    return out.getvalue()


def channel_picture(alignment: Alignment, channel: int, colour: str, low: float, high: float) -> bytes:
    """PNG of one channel of the image, laid on the same pixels as `slide_picture`: the colour, as opaque as the value is high."""
    import numpy as np

    from ml.multiplex.overlay import overlay_png

    x, y, width, height = picture_box(alignment)
    step, cols, rows = _picture_size(width, height)
    try:
        matrix = np.asarray(alignment.matrix, np.float64)
        return overlay_png(store.path(alignment.image.key), channel, matrix, (x, y), step, (cols, rows), colour, low, high)
    except SlideError as error:
        raise refused(error, 422) from error


def _picture_size(width: float, height: float) -> tuple[float, int, int]:
    """(px0 per pixel, columns, rows) of a checking picture."""
    step = max(width, height) / PICTURE_PX
    return step, max(1, round(width / step)), max(1, round(height / step))


def _fit_each_other(image: MultiplexImage, slide: Slide) -> None:
    mine, theirs = slide.sample.patient, image.sample.patient
    if theirs.pk != mine.pk:
        sentence = f"The image {image.name} is of patient {theirs.code}, the slide {slide.name} of patient {mine.code}."
        raise AssayRefused(AssayCode.PATIENT_DISAGREES, sentence, "Choose a slide of the same patient.")
    if image.state != MultiplexImage.State.READY:
        sentence = f"The image {image.name} is not ready: {image.state}."
        raise AssayRefused(AssayCode.IMAGE_NOT_READY, sentence, "Resolve its findings first.", status=409)
    need_ready(slide)


def _sections(image: MultiplexImage, slide: Slide) -> list[Finding]:
    if image.sample_id == slide.sample_id:
        return []
    sentence = f"The image is of sample {image.sample.code}, the slide of sample {slide.sample.code} of the same patient."
    hint = "Right only if both were cut from one block."
    return [Finding(AssayCode.SLIDE_DISAGREES, Severity.WARNING, "", "", sentence, hint)]


def _pairs(landmarks: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The points of both sides. AssayRefused ALIGNMENT_INVALID."""
    sides: tuple[list[Any], list[Any]] = ([], [])
    fits = isinstance(landmarks, list | tuple) and len(landmarks) <= MAX_LANDMARKS
    for pair in landmarks if fits else ():
        for side, name in zip(sides, ("image", "slide")):
            point = pair.get(name) if isinstance(pair, dict) else None
            numbers = isinstance(point, list | tuple) and len(point) == 2 and all(type(v) in (int, float) and abs(v) < 1e9 for v in point)
            if not numbers:
                fits = False
                break
            side.append([float(v) for v in point])
    if not fits:
        hint = f"Give up to {MAX_LANDMARKS} pairs, each as image: [x, y], slide: [x, y]."
        raise AssayRefused(FindingCode.ALIGNMENT_INVALID, "The landmarks are no list of pairs of points.", hint)
    return sides
