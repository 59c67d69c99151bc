"""The product's site with two more addresses for bench_view_tiles.py: a bare reply, and the view that OpenSlide's examples show.

All three run behind the same middleware. Served by gunicorn as `view_tiles_site:application`.
"""

# ruff: noqa: E402 - Django must be set up first
import io
import os
from functools import lru_cache

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tissueboard.settings")
django.setup()

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

from tissueboard.urls import urlpatterns as product

settings.ROOT_URLCONF = __name__


def bare(request):
    return HttpResponse(b"ok")


@lru_cache
def generator_of(file: str):
    import openslide
    from openslide.deepzoom import DeepZoomGenerator

    return DeepZoomGenerator(openslide.OpenSlide(file), tile_size=254, overlap=1, limit_bounds=True)


def generator(request, level, col, row):
    out = io.BytesIO()
    generator_of(os.environ["BENCH_SLIDE"]).get_tile(level, (col, row)).save(out, "JPEG", quality=80)
    return HttpResponse(out.getvalue(), content_type="image/jpeg")


urlpatterns = [*product, path("bare/", bare), path("generator/<int:level>/<int:col>_<int:row>.jpeg", generator)]
application = get_wsgi_application()
