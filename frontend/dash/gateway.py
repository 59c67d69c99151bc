"""The one door to every Dash view (DESIGNS 4): login, right, CSRF, shape of the body, then the WSGI call in process.

The object's id is in the address, so each callback is checked again; nothing that the browser keeps is believed.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_protect, ensure_csrf_cookie
from django.views.decorators.http import require_http_methods

from frontend.pages.access import signed_in
from tissueboard.errors import Code, NotVisible, TissueboardError

from .app import ENVIRON, Context, warmed_up

MAX_BODY_BYTES = 256 * 1024
CALLBACK_PATH = "_dash-update-component"
BODY_KEYS = {"output", "outputs", "inputs", "changedPropIds", "parsedChangedPropsIds", "state"}
DROPPED_HEADERS = {"content-length", "connection", "set-cookie"}


@dataclass(frozen=True)
class View:
    """route: the name of its address; key: what the address calls the object's id. find(user, id): the object, or NotVisible."""

    route: str
    key: str
    find: Callable[[Any, int], Any]
    build: Callable[[], Any]


def _km() -> Any:
    from .kaplan_meier import build

    return build()


def _cohort(user: Any, object_id: int) -> Any:
    from tissueboard.cohorts.selectors import get_cohort

    return get_cohort(user, object_id)


VIEWS = {"km": View("dash", "cohort_id", _cohort, _km)}


_apps: dict[str, Any] = {}
_building = threading.Lock()


def app_of(view: str) -> Any:
    """The application of a view, built once per process; it holds no user and no object. Nobody gets it before it is ready."""
    if view not in _apps:
        with _building:
            if view not in _apps:
                _apps[view] = warmed_up(VIEWS[view].build())
    return _apps[view]


@signed_in
@ensure_csrf_cookie
@csrf_protect
@require_http_methods(["GET", "POST"])
def gateway(request: HttpRequest, view: str, path: str = "", **ids: int) -> HttpResponse:
    """Serves /dash/<view>/<object id>/<path> for a signed-in user who may see the object; `ids` holds that one id."""
    known = VIEWS[view]
    subject = known.find(request.user, ids[known.key])
    app = app_of(view)
    body = _checked_body(request, path, app)
    context = Context(request, subject, reverse(known.route, kwargs=ids))
    return _answer(app, _environ(request, path, body, context))


def _checked_body(request: HttpRequest, path: str, app: Any) -> bytes:
    """The body of a callback, refused with 400 or 413 unless it has the shape that Dash itself would send."""
    if request.method != "POST":
        return b""
    if path != CALLBACK_PATH:
        raise NotVisible("view")
    # Read from the stream, not request.body, with a bound of our own.
    body = request.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise TissueboardError(Code.BAD_REQUEST, "The request is too large.", "Reload the page and try again.", status=413)
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        raise _malformed("is not JSON") from None
    if not isinstance(sent, dict) or set(sent) - BODY_KEYS or not {"output", "inputs", "changedPropIds"} <= set(sent):
        raise _malformed("has not the keys of a callback")
    if not isinstance(sent["output"], str):
        raise _malformed("names no output")
    callback = app.callback_map.get(sent["output"])
    if callback is None:
        raise _malformed("names an output that this view does not have")
    if not _same_properties(sent["inputs"], callback["inputs"]) or not _same_properties(sent.get("state", []), callback["state"]):
        raise _malformed("has not the inputs of this callback")
    changed = sent["changedPropIds"]
    if not isinstance(changed, list) or not all(isinstance(one, str) for one in changed):
        raise _malformed("does not say what changed")
    if not _outputs_fit(sent.get("outputs"), sent["output"]):
        raise _malformed("has not the outputs of this callback")
    return body


def _same_properties(sent: Any, declared: list[dict[str, Any]]) -> bool:
    """Whether what was sent are exactly the declared properties, in order."""
    if not isinstance(sent, list) or len(sent) != len(declared):
        return False
    return all(isinstance(s, dict) and s.get("id") == d["id"] and s.get("property") == d["property"] for s, d in zip(sent, declared))


def _outputs_fit(sent: Any, output: str) -> bool:
    """Outputs as Dash sends them: {id, property} or a list of such, whose names together are the output's own."""
    many = sent if isinstance(sent, list) else [sent]
    if not all(isinstance(s, dict) and isinstance(s.get("id"), str) and isinstance(s.get("property"), str) for s in many):
        return False
    names = [f"{s['id']}.{s['property']}" for s in many]
    return output == (f"..{'...'.join(names)}.." if isinstance(sent, list) else names[0])


def _malformed(what: str) -> TissueboardError:
    return TissueboardError(Code.BAD_REQUEST, f"The body of the request {what}.", "Reload the page and try again.", status=400)


def _environ(request: HttpRequest, path: str, body: bytes, context: Context) -> dict[str, Any]:
    environ: dict[str, Any] = {key: value for key, value in request.META.items() if isinstance(value, str)}
    environ.update(
        {
            "SCRIPT_NAME": "",
            "PATH_INFO": f"/{path}",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": request.scheme,
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            ENVIRON: context,
        }
    )
    return environ


def _answer(app: Any, environ: dict[str, Any]) -> HttpResponse:
    """Calls the application and hands status, headers and body back; adds what the page needs to the security policy."""
    from werkzeug.test import run_wsgi_app

    chunks, status, headers = run_wsgi_app(app.server.wsgi_app, environ, buffered=True)
    response = HttpResponse(b"".join(chunks), status=int(status.split()[0]))
    for name, value in headers.items():
        if name.lower() not in DROPPED_HEADERS:
            response[name] = value
    # Dash starts by one inline script, allowed by its hash; plotly writes style elements. Everything else stays as on every page.
    response._csp_update = {"script-src": list(app.csp_hashes()), "style-src": ["'unsafe-inline'"], "worker-src": ["'self'", "blob:"]}
    return response
