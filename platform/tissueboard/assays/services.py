"""Looking at multiplex images: the logged opening, signed tokens for their tiles, and what a tile's address may ask for.

Bringing measured labels in is in `labels` (a table), `label_uploads` (a table that was sent) and `label_jobs` (from an image).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core import signing
from django.core.cache import cache

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import role_in
from tissueboard.errors import NotVisible
from tissueboard.store import store

from .errors import AssayCode, AssayRefused
from .label_jobs import request_labels
from .label_uploads import receive_labels
from .labels import Asked, LabelResult, add_labels
from .models import MultiplexImage
from .selectors import get_image

if TYPE_CHECKING:
    from ml.multiplex.zarr_pyramid import Shown

__all__ = [
    "Asked",
    "LabelResult",
    "add_labels",
    "check_token",
    "image_folder",
    "open_image",
    "receive_labels",
    "request_labels",
    "shown_channels",
    "tile_token",
]
SALT = "tissueboard.assays.tiles"
PATH_SECONDS = 60
MAX_SHOWN = 6
COLOUR = re.compile(r"[0-9a-fA-F]{6}")


def open_image(user: Any, image_id: int) -> MultiplexImage:
    """One multiplex image, with one row in the access log; its tiles are not logged one by one. NotVisible for a stranger."""
    image = get_image(user, image_id)
    patient = image.sample.patient
    record(user, "read multiplex image", image, cohort_id=patient.cohort_id, patient_code=patient.code)
    return image


def tile_token(user: Any, image: MultiplexImage) -> str:
    """A token for the tiles of one image, bound to image and user, good for TILE_TOKEN_SECONDS. NotVisible if she may not see it."""
    if role_in(user, image.sample.patient.cohort) is None:
        raise NotVisible("multiplex image")
    return signing.dumps([image.pk, user.pk], salt=SALT)


def check_token(token: str, image_id: int) -> int:
    """The id of the user to whom the token was given. NotVisible if it is forged, expired or another image's. Asks no database."""
    try:
        bound_image, user_id = signing.loads(token, salt=SALT, max_age=settings.TILE_TOKEN_SECONDS)
    except (signing.BadSignature, ValueError, TypeError):
        raise NotVisible("multiplex image") from None
    if bound_image != image_id:
        raise NotVisible("multiplex image")
    return int(user_id)


def image_folder(image_id: int) -> tuple[Path, str]:
    """(folder, tag) of a ready pyramid, remembered for a minute; tag changes with its bytes. NotVisible if there is none.

    Checks no right: callers hold a token of this image.
    """
    known = cache.get(f"multiplex-image-{image_id}")
    if known is None:
        row = MultiplexImage.objects.filter(pk=image_id, state=MultiplexImage.State.READY).values_list("key", "sha256").first()
        if row is None:
            raise NotVisible("multiplex image")
        known = (row[0], row[1][:16])
        cache.set(f"multiplex-image-{image_id}", known, PATH_SECONDS)
    return store.path(known[0]), known[1]


def shown_channels(values: list[str]) -> list[Shown]:
    """What `?c=INDEX:COLOUR:LOW:HIGH` asks for, at most six times: low is drawn black, high in full colour (stored values).

    No channel gives a black tile. AssayRefused BAD_CHANNELS for anything else.
    """
    from ml.multiplex.zarr_pyramid import Shown

    if len(values) > MAX_SHOWN:
        raise _bad_channels(f"At most {MAX_SHOWN} channels are drawn at once.")
    shown = []
    for value in values:
        index, colour, low, high = (value.split(":") + [""] * 4)[:4]
        limits = [_number(low), _number(high)]
        fits = value.count(":") == 3 and index.isascii() and index.isdigit() and len(index) <= 4 and COLOUR.fullmatch(colour)
        if not fits or not all(map(math.isfinite, limits)) or limits[0] >= limits[1]:
            raise _bad_channels(f"{value[:60]!r} is no channel to draw.")
        shown.append(Shown(int(index), colour, *limits))
    return shown


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _bad_channels(sentence: str) -> AssayRefused:
    return AssayRefused(AssayCode.BAD_CHANNELS, sentence, "Write c=INDEX:RRGGBB:LOW:HIGH, e.g. c=0:4d6dff:0:250, with LOW below HIGH.")
