"""The health page, for people and load balancers. It says which part is missing and nothing else."""

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from .health import health


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """200 if database, queue and worker answer, else 503."""
    report = health()
    return JsonResponse(report, status=200 if report["ok"] else 503)
