"""The Celery app. Workers start with `celery -A tissueboard.celery worker -Q io`."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tissueboard.settings")

app = Celery("tissueboard")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["tissueboard.jobs", "tissueboard.pipelines"])


@app.on_after_finalize.connect
def _announce(sender: Celery, **_: object) -> None:
    from tissueboard.jobs.presence import Presence

    sender.steps["consumer"].add(Presence)
