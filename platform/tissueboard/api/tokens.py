"""POST /api/v1/token/: a bearer token for a user name and password."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import authenticate
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle

from tissueboard.accounts.audit import record
from tissueboard.accounts.services import issue_token
from tissueboard.errors import TissueboardError

from .base import Address
from .fields import ErrorSerializer
from .parsers import SafeJSONParser


class TokenThrottle(SimpleRateThrottle):
    """Guesses per address that the request came from, whatever it says of itself in X-Forwarded-For."""

    scope = "token"

    def get_cache_key(self, request: Request, view: Any) -> str:
        return str(self.cache_format % {"scope": self.scope, "ident": request.META.get("REMOTE_ADDR", "")})


class Credentials(serializers.Serializer[Any]):
    username = serializers.CharField(max_length=150)
    password = serializers.CharField(max_length=1024, trim_whitespace=False, style={"input_type": "password"})


class TokenSerializer(serializers.Serializer[Any]):
    token = serializers.CharField(help_text="Shown this once; send it as Authorization: Bearer <token>.")
    expires_at = serializers.DateTimeField()


class TokenView(Address):
    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = (TokenThrottle,)
    parser_classes = (SafeJSONParser, FormParser, MultiPartParser)
    serializer_class = TokenSerializer

    @extend_schema(
        operation_id="token_create",
        summary="A token for a user name and password",
        request=Credentials,
        responses={200: TokenSerializer, 400: ErrorSerializer, 401: ErrorSerializer, 429: ErrorSerializer},
        auth=[],
    )
    def post(self, request: Request) -> Response:
        given = self.read_body(Credentials)
        user = authenticate(request, username=given["username"], password=given["password"])
        if user is None:
            raise TissueboardError(
                "WRONG_CREDENTIALS",
                "User name and password do not fit.",
                "Check both; a manager of the server can set a new password.",
                status=401,
            )
        plain, token = issue_token(user)
        record(user, "issue token", token, cohort_id=None)
        return Response(TokenSerializer({"token": plain, "expires_at": token.expires_at}).data)
