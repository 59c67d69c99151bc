from django.apps import AppConfig


class SlidesConfig(AppConfig):
    name = "tissueboard.slides"
    label = "slides"
