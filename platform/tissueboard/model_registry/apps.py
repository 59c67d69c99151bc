from django.apps import AppConfig


class ModelRegistryConfig(AppConfig):
    name = "tissueboard.model_registry"
    label = "model_registry"
