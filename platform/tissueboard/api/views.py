"""What answers where nothing else does."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.errors import Code, TissueboardError

from .base import Address


@extend_schema(exclude=True)
class Unknown(Address):
    """Every other address below /api/v1/: 404 in the shape of all refusals, for any method and anybody."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    http_method_names = ["get", "post", "put", "patch", "delete", "head", "options"]

    def get(self, request: Request, **kwargs: Any) -> Response:
        slash = request.path.endswith("/")
        hint = "/api/v1/schema/ lists all addresses." if slash else "Addresses end with a slash; /api/v1/schema/ lists them."
        raise TissueboardError(Code.NOT_FOUND, "There is no such address in the API.", hint, where=request.path[:200], status=404)

    post = put = patch = delete = head = options = get
