"""Addresses of files that models gave (login)."""

from django.urls import path

from . import views

urlpatterns = [path("<int:slide_id>/features/<int:prediction_id>.h5", views.feature_file, name="feature_file")]
