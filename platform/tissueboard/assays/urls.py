"""Addresses of the tiles of multiplex images and of the outlines of their cells (signed token)."""

from django.urls import path

from . import views

urlpatterns = [
    path("<int:image_id>/<str:token>/<int:level>/<int:col>_<int:row>.jpeg", views.tile, name="multiplex_tile"),
    path("<int:image_id>/<str:token>/cells/<int:level>/<int:col>_<int:row>.png", views.outlines, name="multiplex_outlines"),
]
