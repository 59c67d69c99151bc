"""Addresses of the tiles of multiplex images (signed token)."""

from django.urls import path

from . import views

urlpatterns = [path("<int:image_id>/<str:token>/<int:level>/<int:col>_<int:row>.jpeg", views.tile, name="multiplex_tile")]
