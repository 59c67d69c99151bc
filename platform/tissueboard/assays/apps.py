from django.apps import AppConfig


class AssaysConfig(AppConfig):
    name = "tissueboard.assays"
    label = "assays"
