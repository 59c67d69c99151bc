"""The door of every page: signed-in people only, also for the fragments that htmx fetches."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from tissueboard.errors import Code, TissueboardError

View = Callable[..., HttpResponseBase]


def signed_in(view: View) -> View:
    """Redirects an anonymous reader to the login page and back. A fragment tells htmx to move the whole page there, so that the
    login form never appears inside a block."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated:
            _refuse_nul(request)
            return view(request, *args, **kwargs)
        if getattr(request, "htmx", False):
            response = HttpResponse(status=401)
            response["HX-Redirect"] = settings.LOGIN_URL
            return response
        return redirect_to_login(request.get_full_path(), settings.LOGIN_URL)

    return checked


def _refuse_nul(request: HttpRequest) -> None:
    """No form and no address of ours holds a NUL character, and the database takes none: refused here, once, for all pages."""
    sent = (value for form in (request.GET, request.POST) for _, values in form.lists() for value in values)
    if any("\x00" in str(value) for value in sent):
        raise TissueboardError(Code.BAD_REQUEST, "The address or form holds a character that is no text (NUL).", "Type it again.")


def whole_number(text: str | None, default: int | None = None) -> int | None:
    """A positive whole number out of a query string; `default` where it is none (a hand-written address is no reason for a 500)."""
    if text and text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    return default
