"""Where a request comes from (for the access log), and refusals turned into pages or JSON."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from tissueboard.errors import TissueboardError


@dataclass(frozen=True)
class RequestContext:
    """Address and path of the request being served; empty in commands and jobs."""

    address: str = ""
    path: str = ""


NOWHERE = RequestContext()
current: ContextVar[RequestContext] = ContextVar("request_context", default=NOWHERE)


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
    """A TissueboardError from any view becomes a page (template error.html) or, under /api/ and for JSON, its dictionary."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, TissueboardError):
            return None
        if request.path.startswith(("/api/", "/slides/")) or request.headers.get("accept", "").startswith("application/json"):
            return JsonResponse(exception.as_dict(), status=exception.status)
        return render(request, "error.html", {"error": exception, "status": exception.status}, status=exception.status)
