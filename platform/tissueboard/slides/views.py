"""View tiles and thumbnails. The Deep Zoom addresses carry a token and ask for no session; the thumbnail asks for a login."""

from __future__ import annotations

from pathlib import Path

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.views.decorators.http import require_safe

from ml.slides.findings import FindingCode, SlideError
from tissueboard.errors import TissueboardError

from .selectors import get_slide
from .services import check_token, log_opening, thumbnail_file, working_file

PRIVATE = "private, max-age=3600"


@require_safe
def dzi(request: HttpRequest, slide_id: int, token: str) -> HttpResponse:
    """The Deep Zoom descriptor of a working slide. Opening it is the logged read; its tiles are not logged one by one."""
    check_token(token, slide_id)
    path, tag = working_file(slide_id)
    content = _deep_zoom(path).dzi()
    log_opening(token, slide_id)
    return _private(HttpResponse(content, content_type="application/xml"), f'"{tag}-dzi"')


@require_safe
def tile(request: HttpRequest, slide_id: int, token: str, level: int, col: int, row: int) -> HttpResponse:
    """One view tile as JPEG; with ?icc=1 in sRGB after the slide's colour profile.

    No permission query: the token carries the right, the path of the working slide is remembered.
    """
    check_token(token, slide_id)
    path, tag = working_file(slide_id)
    profiled = bool(request.META.get("QUERY_STRING")) and request.GET.get("icc") == "1"
    etag = f'"{tag}-{level}-{col}-{row}{"-icc" if profiled else ""}"'
    if etag in request.META.get("HTTP_IF_NONE_MATCH", ""):
        return _private(HttpResponseNotModified(), etag)
    try:
        content = _tile(path, level, col, row, profiled)
    except SlideError as reason:
        raise _refused(reason) from reason
    return _private(HttpResponse(content, content_type="image/jpeg"), etag)


@require_safe
@login_required
def thumbnail(request: HttpRequest, slide_id: int) -> HttpResponse:
    """A picture of at most 512 px of the working slide, for lists."""
    slide = get_slide(request.user, slide_id)
    path = thumbnail_file(slide)
    if not path.is_file():
        raise TissueboardError(
            "NO_THUMBNAIL", f"The slide {slide.name} has no picture yet: it is {slide.state}.", "Wait until it is ready.", status=404
        )
    etag = f'"{slide.working_sha256[:16]}-thumb"'
    if request.headers.get("If-None-Match") == etag:
        return _private(HttpResponseNotModified(), etag)
    return _private(HttpResponse(path.read_bytes(), content_type="image/jpeg"), etag)


def _deep_zoom(path: Path):  # type: ignore[no-untyped-def]  # an open slide; OpenSlide is loaded with the first tile
    from ml.slides.deepzoom import slide_cache

    try:
        return slide_cache(path)
    except SlideError as reason:
        raise _refused(reason) from reason


def _tile(path: Path, level: int, col: int, row: int, profiled: bool) -> bytes:
    from ml.slides.deepzoom import slide_cache

    opened = slide_cache(path)
    return slide_cache.srgb(opened, level, col, row) if profiled else opened.tile(level, col, row)


def _refused(reason: SlideError) -> TissueboardError:
    status = 404 if reason.code in (FindingCode.TILE_NOT_THERE, FindingCode.FILE_MISSING, FindingCode.NO_COLOUR_PROFILE) else 422
    return TissueboardError(reason.code, reason.sentence, reason.hint, where=reason.where, status=status)


def _private(response: HttpResponse, etag: str) -> HttpResponse:
    response["Cache-Control"] = PRIVATE
    response["ETag"] = etag
    return response
