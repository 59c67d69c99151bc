"""The addresses of the house: health, admin, REST; the pages come from the URL module that the settings name."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from tissueboard.jobs.views import healthz

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("admin/", admin.site.urls),
    path("api/v1/", include("tissueboard.api.urls")),
    path("assays/tiles/", include("tissueboard.assays.urls")),
    path("slides/", include("tissueboard.slides.urls")),
    path("slides/", include("tissueboard.predictions.urls")),
    path("", include(settings.FRONTEND_URLCONF)),
]
# Pages for errors are part of the frontend, named by string as the URL module is.
handler400, handler403, handler404, handler500 = settings.ERROR_VIEWS
