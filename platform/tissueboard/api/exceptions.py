"""Every refusal of the REST API in one shape: {code, sentence, where, hint}; refused input also lists every field under `errors`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import RequestDataTooBig
from django.http import Http404
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import set_rollback

from tissueboard.accounts.audit import record_refusal
from tissueboard.errors import Code, NotVisible, TissueboardError

VALIDATION = "VALIDATION"
VALIDATION_HINT = "Correct the field and send the request again; /api/v1/schema/ says what each field takes."

# What to do about an error that the framework raised before a view was asked.
HINTS: dict[type[exceptions.APIException], str] = {
    exceptions.NotAuthenticated: "Send the header Authorization: Bearer <token>; POST /api/v1/token/ gives a token.",
    exceptions.AuthenticationFailed: "Ask for a new token at POST /api/v1/token/.",
    exceptions.PermissionDenied: "Sign in as somebody who may do this; a request with a session cookie also needs the CSRF token.",
    exceptions.MethodNotAllowed: "The header Allow of this answer names the methods that this address takes.",
    exceptions.UnsupportedMediaType: "Send JSON with the header Content-Type: application/json.",
    exceptions.ParseError: "Send one JSON object.",
    exceptions.Throttled: "Wait as long as the header Retry-After says.",
    exceptions.NotFound: "Check the address and its page number.",
}


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler. None (a 500 that is logged) for what is not declared as an answer to a person."""
    if isinstance(error, Http404):
        context, error = {**context, "cause": error}, NotVisible("address")
    elif isinstance(error, DjangoPermissionDenied):
        error = exceptions.PermissionDenied()
    elif isinstance(error, RequestDataTooBig):
        most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE >> 20
        error = TissueboardError(
            "TOO_LARGE", f"The request has more than {most} MiB.", "Send less at once, or send it as a file.", status=413
        )
    if isinstance(error, TissueboardError):
        set_rollback()
        if context.get("request") is not None and not isinstance(context.get("cause"), Http404):
            record_refusal(context["request"].user, error)
        return Response(error.as_dict(), status=error.status)
    if isinstance(error, exceptions.ValidationError):
        set_rollback()
        return Response(validation_body(error), status=400)
    if isinstance(error, exceptions.APIException):
        set_rollback()
        return Response(_body(error, context.get("request")), status=error.status_code, headers=_headers(error))
    return None


def validation_body(error: exceptions.ValidationError) -> dict[str, Any]:
    """The first refused field as the answer, all of them under `errors`; `where` is the field's path, e.g. "slide" or "slides.2"."""
    found = [{"where": where, "sentence": sentence} for where, sentence in _fields(error.detail, "")]
    first = found[0] if found else {"where": "", "sentence": "The request is not valid."}
    return {"code": VALIDATION, **first, "hint": VALIDATION_HINT, "errors": found}


def _fields(detail: Any, path: str) -> Iterator[tuple[str, str]]:
    """(path, sentence) of every message in DRF's nested details, in order."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            field = "" if name == "non_field_errors" else str(name)
            yield from _fields(inner, ".".join(filter(None, (path, field))))
    elif isinstance(detail, list):
        for index, inner in enumerate(detail):
            nested = isinstance(inner, dict | list)
            yield from _fields(inner, ".".join(filter(None, (path, str(index)))) if nested else path)
    else:
        yield path, _sentence(str(detail))


def _sentence(text: str) -> str:
    # A message may quote what was sent, and half of a character cannot be sent back.
    text = text.strip().encode("utf-8", "backslashreplace").decode()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _body(error: exceptions.APIException, request: Request | None) -> dict[str, str]:
    code = str(error.default_code).upper() if error.status_code != 404 else str(Code.NOT_FOUND)
    where = request.method if request is not None and isinstance(error, exceptions.MethodNotAllowed) else ""
    hint = next((hint for kind, hint in HINTS.items() if isinstance(error, kind)), "Read /api/v1/schema/ for what this address takes.")
    return {"code": code, "sentence": _sentence(str(error.detail)), "where": where or "", "hint": hint}


def _headers(error: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = error.auth_header
    if getattr(error, "wait", None):
        headers["Retry-After"] = str(int(error.wait))
    return headers
