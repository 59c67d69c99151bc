"""Downloads of what models gave: by login and selector, each one logged."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import FileResponse, HttpRequest
from django.views.decorators.http import require_safe

from .feature_export import Download, download_bag


@require_safe
@login_required
def feature_file(request: HttpRequest, slide_id: int, prediction_id: int) -> FileResponse:
    """One feature bag of a slide as HDF5."""
    return send(download_bag(request.user, slide_id, prediction_id))


TYPES = {".h5": "application/x-hdf5", ".parquet": "application/vnd.apache.parquet", ".csv": "text/csv; charset=utf-8"}


def send(found: Download) -> FileResponse:
    """The file in blocks, with its checksum and what made it in the headers."""
    kind = TYPES[found.path.suffix]
    answer = FileResponse(found.path.open("rb"), as_attachment=True, filename=found.name, content_type=kind)
    answer["Cache-Control"] = "private, no-store"
    answer["X-Content-SHA256"] = found.sha256
    answer["X-Model-Version"] = f"{found.version} ({found.label})".encode("ascii", "replace").decode()
    return answer
