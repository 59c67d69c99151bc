from django.apps import AppConfig


class OutcomesConfig(AppConfig):
    name = "tissueboard.outcomes"
    label = "outcomes"
