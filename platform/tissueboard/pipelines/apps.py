from django.apps import AppConfig


class PipelinesConfig(AppConfig):
    name = "tissueboard.pipelines"
    label = "pipelines"
