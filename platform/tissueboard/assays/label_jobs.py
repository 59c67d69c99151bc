"""Measured labels of a slide from a multiplex image that lies on its pixels, as a job: a large image takes minutes.

Registration is external, as in HEX (palom): an image counts as registered where it is of the same patient and has the slide's um per px.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from django.db import transaction

from ml.slides.findings import Severity
from tissueboard.accounts.models import User
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.models import Job
from tissueboard.jobs.services import enqueue
from tissueboard.slides.models import Slide
from tissueboard.slides.region_imports import origin_of
from tissueboard.slides.tiling import grid_of, input_key, open_working
from tissueboard.store import store

from .errors import AssayCode, LabelsRefused
from .label_checks import LEAST_TILES, check_tiles_size, finding, refusal_of
from .labels import Asked, check_labels, forget, keep, may_add, stored
from .models import Assay, MultiplexImage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = "assays.labels_from_multiplex"
SAME_MPP = 0.01  # of the um per px: over 4,000 px a tile would be 40 px off


def request_labels(
    user: Any,
    slide: Slide,
    image: MultiplexImage,
    asked: Asked | None = None,
    *,
    xy: NDArray[np.int64] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> Job:
    """Asks for the job that measures the tiles of a slide on an imported image. Needs contributor (user None: the house itself).

    xy: (n, 2) int64 corners in px0 as `asked.whole_file` says; None for the tiles side by side on the tissue that may be processed.
    origin: px0 of the working slide where the image's first pixel lies. The means of all channels are kept unscaled, under their names.
    Errors: NotVisible, RoleMissing, SLIDE_NOT_READY, AssayRefused IMAGE_NOT_READY (409), LabelsRefused PATIENT_DISAGREES, NOT_REGISTERED.
    """
    import numpy as np

    asked = asked or Asked()
    may_add(user, slide, asked)
    check_registered(slide, image)
    findings: list[Any] = []
    if not check_tiles_size(slide, asked.tile_um, findings):
        raise LabelsRefused(findings)
    key = ""
    if xy is not None:
        corners = np.ascontiguousarray(xy, np.int64)
        key = f"assays/labels/{slide.pk}/corners-{hashlib.sha256(corners.tobytes()).hexdigest()[:16]}.npy"
        temp = store.new_temp(".npy")
        np.save(temp, corners)
        store.save(temp, key)
    params = {"slide": slide.pk, "image": image.pk, "corners": key, "origin": list(origin), "asked": asdict(asked)}
    # Labels that came in between are part of what is asked for: those of the image can take their place once more.
    here = Assay.objects.filter(slide=slide, kind=asked.kind).values_list("sha256", flat=True).first() or ""
    return enqueue(user, KIND, params, cohorts=[slide.sample.patient.cohort], key=f"{image.sha256} {input_key(slide)} {here}")


def check_registered(slide: Slide, image: MultiplexImage) -> None:
    """LabelsRefused unless the image is ready, of the slide's patient, and of the same um per px."""
    mine, theirs = slide.sample.patient, image.sample.patient
    if theirs.pk != mine.pk:
        sentence = f"The image {image.name} is of patient {theirs.code}, the slide {slide.name} of patient {mine.code}."
        raise LabelsRefused([finding(AssayCode.PATIENT_DISAGREES, sentence, "Choose an image of the same patient.")])
    if image.state != MultiplexImage.State.READY:
        sentence = f"The image {image.name} is not ready: {image.state}."
        raise LabelsRefused([finding(AssayCode.IMAGE_NOT_READY, sentence, "Resolve its findings first.")], status=409)
    if abs(math.log(float(image.mpp or 1) / float(slide.mpp or 1))) > SAME_MPP:
        sentence = (
            f"The image {image.name} has {image.mpp:.4g} um per px, the slide {slide.name} {slide.mpp:.4g}: it does not lie on its pixels."
        )
        hint = "Register it to the H&E first (e.g. with palom), export it in the H&E's pixels and import that."
        raise LabelsRefused([finding(AssayCode.NOT_REGISTERED, sentence, hint)])


def labels_from_multiplex(ctx: JobContext) -> Done:
    """Job assays.labels_from_multiplex. params: those of `request_labels`; asked: the fields of Asked."""
    import numpy as np

    from ml.hex.errors import HexDataError
    from ml.hex.tile_means import labels_from_image

    slide = Slide.objects.select_related("sample__patient__cohort").get(pk=ctx.params["slide"])
    image = MultiplexImage.objects.select_related("sample__patient").get(pk=ctx.params["image"])
    asked = Asked(**ctx.params["asked"])
    user = User.objects.filter(pk=ctx.created_by_id).first()
    may_add(user, slide, asked)
    check_registered(slide, image)
    side = round(asked.tile_um / float(slide.mpp or 1))
    origin = np.asarray(ctx.params["origin"], np.int64)
    ctx.progress(0.02, "finding the tiles")
    if ctx.params["corners"]:
        xy = np.load(store.path(ctx.params["corners"]), allow_pickle=False) - [round(v) for v in origin_of(slide, asked.whole_file)]
    else:
        xy = _grid(slide, asked.tile_um, origin, (image.width, image.height))
    try:
        table = labels_from_image(
            store.path(image.key),
            xy,
            side,
            markers=image.channels,
            slide=slide.name,
            origin=(int(origin[0]), int(origin[1])),
            tick=lambda share: ctx.progress(0.05 + 0.85 * share, f"measuring {len(xy)} tiles"),
        )
    except HexDataError as error:
        raise refusal_of(error) from error
    facts = {"source": f"multiplex image {image.pk}", "source_sha256": image.sha256, "code_version": ctx.code_version}
    # The corners are those of the working slide by now.
    labels = check_labels(slide, table, replace(asked, whole_file=False, table_slide=""), facts, simulated=image.simulated)
    labels = stored(replace(labels, findings=[*labels.findings, *_sizes(slide, image, origin)]))

    def publish() -> None:
        try:
            keep(user, labels)
        except LabelsRefused:
            forget(labels)
            raise
        if corners := ctx.params["corners"]:
            transaction.on_commit(lambda: store.delete(corners))

    return Done([OutputSpec("labels", labels.key, {"sha256": labels.sha256, "slide": slide.pk, **labels.facts})], publish)


def _grid(slide: Slide, tile_um: float, origin: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    """The tiles side by side on the tissue that lie wholly on the image. LabelsRefused TOO_FEW_TILES."""
    import numpy as np

    with open_working(slide) as opened:
        grid = grid_of(slide, opened, tile_um)
    corner = grid.xy - origin
    xy = grid.xy[((corner >= 0) & (corner + grid.tile_px0 <= np.asarray(size))).all(axis=1)]
    if len(xy) < LEAST_TILES:
        sentence = f"Of {len(grid)} tiles on the tissue of {slide.name}, {len(xy)} lie on the image; at least {LEAST_TILES} are needed."
        raise LabelsRefused([finding(AssayCode.TOO_FEW_TILES, sentence, "Check where the image's first pixel lies on the slide.")])
    return xy


def _sizes(slide: Slide, image: MultiplexImage, origin: NDArray[np.int64]) -> list[Any]:
    """A warning where a picture said to lie on the slide's own pixels has another size."""
    if origin.any() or (abs(image.width - slide.width) <= 1 and abs(image.height - slide.height) <= 1):
        return []
    sentence = f"The image has {image.width} x {image.height} px, the slide {slide.width} x {slide.height}; both begin at the same pixel."
    hint = "If it covers a part of the slide only, say where its first pixel lies."
    return [finding(AssayCode.IMAGE_SIZE_DIFFERS, sentence, hint, severity=Severity.WARNING)]
