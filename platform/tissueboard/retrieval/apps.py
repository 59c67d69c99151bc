from django.apps import AppConfig


class RetrievalConfig(AppConfig):
    name = "tissueboard.retrieval"
    label = "retrieval"
