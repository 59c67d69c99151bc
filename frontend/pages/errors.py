"""Pages for refusals and mistakes: what is missing and what to do, in one sentence each."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from tissueboard.errors import Code, TissueboardError


def _answer(request: HttpRequest, status: int, code: str, sentence: str, hint: str) -> HttpResponse:
    error = TissueboardError(code, sentence, hint)
    if request.path.startswith("/api/"):
        return JsonResponse(error.as_dict(), status=status)
    return render(request, "error.html", {"error": error, "status": status}, status=status)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _answer(request, 400, Code.BAD_REQUEST, "The server could not read this request.", "Go back and try again.")


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    hint = "Ask a manager of the cohort for the role that it takes."
    return _answer(request, 403, Code.ROLE_MISSING, "You may not do this.", hint)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    sentence = "There is no page at this address, or it belongs to a cohort that you are not a member of."
    return _answer(request, 404, Code.NOT_FOUND, sentence, "Check the address, or ask the cohort's manager for access.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Drawn without the database and without the session: either may be what failed."""
    return render(
        request,
        "error_plain.html",
        {"sentence": "Something went wrong on the server.", "hint": "What was saved before stays saved. Try again in a minute."},
        status=500,
    )
