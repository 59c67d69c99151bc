"""The addresses of the regions of one slide, below slides/<slide_id>/regions/."""

from django.urls import path

from . import regions

urlpatterns = [
    path("", regions.slide_regions, name="slide_regions"),
    path("new/", regions.slide_region_new, name="slide_region_new"),
    path("data.json", regions.slide_regions_data, name="slide_regions_data"),
    path("regions.geojson", regions.slide_regions_geojson, name="slide_regions_geojson"),
    path("files/<int:import_id>/", regions.slide_region_file, name="slide_region_file"),
    path("<int:region_id>/", regions.slide_region, name="slide_region"),
]
