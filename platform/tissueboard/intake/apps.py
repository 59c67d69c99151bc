from django.apps import AppConfig


class IntakeConfig(AppConfig):
    name = "tissueboard.intake"
    label = "intake"
