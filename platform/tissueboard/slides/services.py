"""Signed tokens for view tiles: the right is checked once per slide, then the token carries it (DESIGNS 1)."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import signing
from django.core.cache import cache

from tissueboard.accounts.audit import record
from tissueboard.accounts.models import User
from tissueboard.cohorts.access import role_in
from tissueboard.errors import NotVisible, TissueboardError
from tissueboard.store import store

from .integrity import check_unchanged, stamp_of
from .models import Slide

SALT = "tissueboard.slides.tiles"
PATH_SECONDS = 60


def tile_token(user: Any, slide: Slide) -> str:
    """A token for the view tiles of one slide, bound to slide and user, good for TILE_TOKEN_SECONDS. NotVisible if she may not see it."""
    if role_in(user, slide.sample.patient.cohort) is None:
        raise NotVisible("slide")
    return signing.dumps([slide.pk, user.pk], salt=SALT)


def check_token(token: str, slide_id: int) -> int:
    """The id of the user to whom the token was given. NotVisible if it is forged, expired or another slide's. Asks no database."""
    try:
        bound_slide, user_id, signed_at = _signed(token, settings.SECRET_KEY)
    except (signing.BadSignature, ValueError, TypeError):
        raise NotVisible("slide") from None
    if bound_slide != slide_id or time.time() - signed_at > settings.TILE_TOKEN_SECONDS:
        raise NotVisible("slide")
    return user_id


@lru_cache(maxsize=4096)
def _signed(token: str, _key: str) -> tuple[int, int, int]:
    """(slide, user, second of signing) of a token that we signed; remembered, because a page asks with one token for hundreds of tiles.

    Errors: BadSignature, ValueError, TypeError.
    """
    slide_id, user_id = signing.loads(token, salt=SALT)
    return slide_id, int(user_id), signing.b62_decode(token.rsplit(":", 2)[1])


def log_opening(token: str, slide_id: int) -> None:
    """One row in the access log for a viewer that opens a slide; its tiles are not logged one by one. NotVisible as `check_token`."""
    user = User.objects.filter(pk=check_token(token, slide_id)).first()
    slide = Slide.objects.filter(pk=slide_id).select_related("sample__patient").first()
    if slide is None or user is None:
        raise NotVisible("slide")
    record(user, "read slide", slide, cohort_id=slide.sample.patient.cohort_id, patient_code=slide.sample.patient.code)


def working_file(slide_id: int) -> tuple[Path, str]:
    """(path, tag) of a ready working slide, remembered for a minute; tag changes with its bytes.

    Checks no right: callers hold a token of this slide. Errors: NotVisible if there is none; TissueboardError FILE_CHANGED where
    it is not the imported file any more (integrity.check_unchanged; asked again only after a minute or another change). A file
    that is gone is told by whoever opens it.
    """
    key = f"working-slide-{slide_id}"
    path, tag, stamp, refused = cache.get(key) or (None, "", None, None)
    if path is None or not path.is_file() or stamp_of(path) != stamp:
        slide = Slide.objects.filter(pk=slide_id, state=Slide.State.READY).first()
        if slide is None:
            raise NotVisible("slide")
        path, tag, refused = store.path(slide.working_key), slide.working_sha256[:16], None
        if not path.is_file():
            return path, tag
        stamp = stamp_of(path)
        try:
            check_unchanged(slide)
        except TissueboardError as error:
            refused = (error.code, error.sentence, error.hint, error.status)
        cache.set(key, (path, tag, stamp, refused), PATH_SECONDS)
    if refused is not None:
        code, sentence, hint, status = refused
        raise TissueboardError(code, sentence, hint, status=status)
    return path, tag


def thumbnail_file(slide: Slide) -> Path:
    """Where the picture of a slide lies; it need not exist before the slide is ready."""
    return store.path(f"slides/{slide.pk}/thumbnail.jpg")
