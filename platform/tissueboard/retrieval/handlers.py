"""Job kinds of retrieval."""

from tissueboard.jobs.context import Done, JobContext
from tissueboard.jobs.registry import handler


@handler("retrieval.fit_niches", queue="cpu", title="Reference scales of niches")
def fit_niches(ctx: JobContext) -> Done:
    from . import niche_jobs

    return niche_jobs.fit_niches(ctx)


@handler("retrieval.niches", queue="cpu", title="Niches of a slide")
def make_niches(ctx: JobContext) -> Done:
    from . import niche_jobs

    return niche_jobs.make_niches(ctx)


@handler("retrieval.build_index", queue="cpu", title="Index of niche sets", soft_seconds=6 * 3600)
def build_index(ctx: JobContext) -> Done:
    from . import indexing

    return indexing.build_index(ctx)


@handler("retrieval.outcome_value", queue="cpu", title="What neighbours' outcomes add to age and stage", soft_seconds=3 * 3600)
def outcome_value(ctx: JobContext) -> Done:
    from . import outcome_value

    return outcome_value.measure(ctx)


@handler("retrieval.image_niches", queue="cpu", title="Niches of a multiplex image")
def image_niches(ctx: JobContext) -> Done:
    from . import image_niches as made

    return made.make_image_niches(ctx)
