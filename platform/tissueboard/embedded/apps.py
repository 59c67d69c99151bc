from django.apps import AppConfig


class EmbeddedConfig(AppConfig):
    name = "tissueboard.embedded"
    label = "embedded"
