"""The jobs of the assays: an uploaded multiplex image, and a waiting one whose channels or um per pixel a person gave."""

from __future__ import annotations

from tissueboard.accounts.models import User
from tissueboard.intake.handlers import bring_in
from tissueboard.intake.models import Import
from tissueboard.intake.uploads import JOB_KINDS
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.registry import handler

from .completing import COMPLETE_KIND
from .importing import complete_multiplex, import_multiplex
from .models import MultiplexImage
from .selectors import get_image


@handler(JOB_KINDS[Import.Kind.MULTIPLEX], queue="io", title="Import a multiplex image")
def import_uploaded(ctx: JobContext) -> Done:
    """Imports (dry_run: checks) the image of an Import row as the person who sent it."""
    return bring_in(ctx, import_multiplex, "image")


@handler(COMPLETE_KIND, queue="io", title="Finish a multiplex image")
def finish_with_answers(ctx: JobContext) -> Done:
    """Checks a waiting image again with the channel names or um per pixel that a person gave and makes it ready."""
    user = User.objects.filter(pk=ctx.created_by_id).first()
    image = get_image(user, ctx.params["image"])
    if image.state != MultiplexImage.State.READY:  # a second delivery finds it ready
        complete_multiplex(user, image, channels=ctx.params["channels"], mpp=ctx.params["mpp"], tick=ctx.check)
    return Done([OutputSpec("image", facts={"image": image.pk, "state": image.state})])
