"""Tiles of multiplex images. The address carries a token and asks for no session; no permission query per tile."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.views.decorators.http import require_safe

from ml.slides.findings import FindingCode, SlideError
from tissueboard.errors import TissueboardError

from .cells import outline_source
from .services import check_token, image_folder, shown_channels

PRIVATE = "private, max-age=3600"
GONE = (FindingCode.TILE_NOT_THERE, FindingCode.CHANNEL_NOT_THERE, FindingCode.FILE_MISSING)


@require_safe
def tile(request: HttpRequest, image_id: int, token: str, level: int, col: int, row: int) -> HttpResponse:
    """One tile of 256 px as JPEG; level 0 is full resolution. ?c= says which channels, in which colours and between which values."""
    check_token(token, image_id)
    shown = shown_channels(request.GET.getlist("c"))
    folder, tag = image_folder(image_id)
    asked = hashlib.sha256("|".join(request.GET.getlist("c")).encode()).hexdigest()[:12]

    def draw() -> bytes:
        from ml.multiplex.zarr_pyramid import render_tile

        return render_tile(folder, level, col, row, shown)

    return _kept_or_drawn(request, f'"{tag}-{level}-{col}-{row}-{asked}"', "image/jpeg", draw)


@require_safe
def outlines(request: HttpRequest, image_id: int, token: str, level: int, col: int, row: int) -> HttpResponse:
    """The outlines of the cells on one tile of 256 px as PNG, white on nothing; nothing is drawn above level 3."""
    check_token(token, image_id)
    folder, tag, size = outline_source(image_id)

    def draw() -> bytes:
        from ml.multiplex.mask_files import outline_tile

        return outline_tile(folder, size, level, col, row)

    return _kept_or_drawn(request, f'"cells-{tag}-{level}-{col}-{row}"', "image/png", draw)


def _kept_or_drawn(request: HttpRequest, etag: str, content_type: str, draw: Callable[[], bytes]) -> HttpResponse:
    """304 where the browser has this very tile; else the tile, or why it cannot be drawn."""
    if request.headers.get("If-None-Match") == etag:
        response: HttpResponse = HttpResponseNotModified()
    else:
        try:
            response = HttpResponse(draw(), content_type=content_type)
        except SlideError as reason:
            status = 404 if reason.code in GONE else 422
            raise TissueboardError(reason.code, reason.sentence, reason.hint, where=reason.where, status=status) from reason
    response["Cache-Control"] = PRIVATE
    response["ETag"] = etag
    return response
