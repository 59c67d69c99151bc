"""The message of the beat that keeps runs over cohorts going."""

from celery import shared_task


@shared_task(name="tissueboard.pipelines.feed", acks_late=False)
def feed() -> None:
    from .feeding import feed_all

    feed_all()
