from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "tissueboard.jobs"
    label = "jobs"

    def ready(self) -> None:
        import tissueboard.celery  # noqa: F401 - so that tasks find the configured app in the web process too

        from . import checks, registry  # noqa: F401 - registers the system check

        registry.discover()
