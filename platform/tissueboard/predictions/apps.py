from django.apps import AppConfig


class PredictionsConfig(AppConfig):
    name = "tissueboard.predictions"
    label = "predictions"
