from django.apps import AppConfig


class CohortsConfig(AppConfig):
    name = "tissueboard.cohorts"
    label = "cohorts"
