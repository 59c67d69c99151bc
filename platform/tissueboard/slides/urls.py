"""Addresses of view tiles (signed token) and thumbnails (login)."""

from django.urls import path

from . import views

urlpatterns = [
    path("<int:slide_id>/<str:token>/slide.dzi", views.dzi, name="slide_dzi"),
    path("<int:slide_id>/<str:token>/slide_files/<int:level>/<int:col>_<int:row>.jpeg", views.tile, name="slide_tile"),
    path("<int:slide_id>/thumbnail.jpg", views.thumbnail, name="slide_thumbnail"),
]
