"""What all views of the API share: JSON in, JSON out, checked query parameters, pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from .pagination import Pages
from .parsers import SafeJSONParser


class AlwaysFirst(BaseContentNegotiation):
    """One format per address: a header Accept or `?format=` never turns an answer into a 406."""

    def select_parser(self, request: Request, parsers: Sequence[Any]) -> Any:
        return next((p for p in parsers if _same_type(request.content_type, p.media_type)), None)

    def select_renderer(self, request: Request, renderers: Sequence[Any], format_suffix: str | None = None) -> tuple[Any, str]:
        return renderers[0], renderers[0].media_type


def _same_type(sent: str, wanted: str) -> bool:
    return sent.split(";", maxsplit=1)[0].strip().lower() == wanted


class Address(GenericAPIView):
    """One address of the API. A view finds things through selectors, writes through services, and holds no rules of its own."""

    renderer_classes = (JSONRenderer,)
    parser_classes = (SafeJSONParser,)
    content_negotiation_class = AlwaysFirst
    filter_backends = ()
    pagination_class = None

    def read_query(self, serializer: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """The query string as the serializer takes it; ValidationError (400, names the parameter) otherwise."""
        return _checked(serializer(data=self.request.query_params.dict()))

    def read_body(self, serializer: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """The request's body as the serializer takes it; ValidationError (400, names the field) otherwise."""
        return _checked(serializer(data=self.request.data))


class ListAddress(Address):
    """An address that gives pages of rows."""

    pagination_class = Pages

    def page_of(self, rows: Any) -> Response:
        """One page of a queryset or list. The order must be total, or pages would overlap."""
        return self.get_paginated_response(self.get_serializer(self.paginate_queryset(rows), many=True).data)


def _checked(serializer: serializers.Serializer[Any]) -> dict[str, Any]:
    if not serializer.is_valid():
        raise ValidationError(serializer.errors)
    data: dict[str, Any] = serializer.validated_data
    return data
