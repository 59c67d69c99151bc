from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "tissueboard.api"
    label = "api"
