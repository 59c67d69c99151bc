"""Where a request comes from (for the access log), and refusals turned into pages or JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import DataError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from tissueboard.errors import Code, TissueboardError

from .audit import record_refusal
from .context import RequestContext, current

logger = logging.getLogger(__name__)


class RequestContextMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = current.set(RequestContext(request.META.get("REMOTE_ADDR", ""), request.path[:300]))
        try:
            return self.get_response(request)
        finally:
            current.reset(token)


class ErrorMiddleware:
    """A TissueboardError from any view becomes a page (template error.html) or, under /api/ and for JSON, its dictionary.

    So does a value that the database cannot hold (a null character in a search, a number out of range): the person's mistake, not ours.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, DataError):
            logger.warning("The database refused a value at %s.", request.path, exc_info=exception)
            sentence = "The request holds a value that no record can have, such as a null character or a number out of range."
            exception = TissueboardError(Code.BAD_REQUEST, sentence, "Correct it and send it again.")
        if not isinstance(exception, TissueboardError):
            return None
        record_refusal(getattr(request, "user", None), exception)
        accept = request.headers.get("accept", "")
        # Under /slides/ lie tiles, which a viewer asks for, and pages and downloads, which a person opens.
        machine = request.path.startswith(("/api/", "/assays/tiles/")) or (
            request.path.startswith("/slides/") and "text/html" not in accept
        )
        if machine or accept.startswith("application/json"):
            return JsonResponse(exception.as_dict(), status=exception.status)
        return render(request, "error.html", {"error": exception, "status": exception.status}, status=exception.status)
