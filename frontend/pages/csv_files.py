"""Tables to take away as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Any

from django.http import HttpResponse
from django.utils.text import slugify


def csv_response(name: str, about: Iterable[str], columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> HttpResponse:
    """A download `name`.csv: comment lines that say what the table is, the names of the columns, then the rows."""
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{slugify(name) or "table"}.csv"'
    writer = csv.writer(response, lineterminator="\n")
    writer.writerows([safe(f"# {line}")] for line in ("Research use only", *about))
    writer.writerow(columns)
    writer.writerows([safe(cell) for cell in row] for row in rows)
    return response


def safe(cell: Any) -> Any:
    """A cell that a spreadsheet will not take for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in tuple("=+-@\t\r") else cell
