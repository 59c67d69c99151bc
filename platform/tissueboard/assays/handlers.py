"""Job kinds of assays."""

from tissueboard.jobs.context import Done, JobContext
from tissueboard.jobs.registry import handler


@handler("assays.labels_from_multiplex", queue="cpu", title="Labels of a slide from a multiplex image")
def labels_from_multiplex(ctx: JobContext) -> Done:
    from . import label_jobs

    return label_jobs.labels_from_multiplex(ctx)
