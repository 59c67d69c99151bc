"""The jobs of intake: an uploaded slide or multiplex image, and a waiting one for which a person gave what it does not say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import Error as DatabaseError

from tissueboard.accounts.models import User
from tissueboard.assays.models import MultiplexImage
from tissueboard.assays.selectors import get_image
from tissueboard.errors import TissueboardError
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import Cancelled
from tissueboard.jobs.registry import handler
from tissueboard.slides.selectors import get_slide
from tissueboard.store import store

from .errors import IntakeCode, IntakeRefused
from .models import Import
from .multiplex_completion import COMPLETE_KIND
from .multiplex_import import complete_multiplex, import_multiplex
from .selectors import get_import
from .services import import_slide, override_mpp
from .uploads import JOB_KIND, JOB_KINDS, OVERRIDE_KIND, drop_bytes, park_import


@handler(JOB_KIND, queue="io", title="Import a slide")
def import_uploaded(ctx: JobContext) -> Done:
    """Imports (dry_run: checks) the slide of an Import row as the person who sent it. A second delivery finds the slide and ends well."""
    return bring_in(ctx, import_slide, "slide")


def bring_in(ctx: JobContext, bring: Callable[..., Any], made: str) -> Done:
    """The job of an uploaded file. bring: the verb that imports a path; made: how its result and the row's facts name what came of it."""
    import_ = get_import(_sender(ctx), ctx.params["import"])
    if not import_.key or not store.exists(import_.key):
        if import_.state in (Import.State.READY, Import.State.REJECTED) or made in import_.facts:
            return Done([OutputSpec("import", facts={"import": import_.pk, "state": import_.state})])
        raise IntakeRefused(IntakeCode.FILE_MISSING, "The uploaded bytes are no longer there.", "Send the file again.")
    dry_run = bool(ctx.params["dry_run"])
    ctx.progress(0.05, "checking")
    result = _work(ctx, import_, dry_run, bring)
    if not dry_run or result.state == Import.State.REJECTED:
        drop_bytes(import_)
    ctx.progress(1.0, result.state)
    row = getattr(result, made)
    facts = {"import": import_.pk, "state": result.state, made: row.pk if row else None}
    return Done([OutputSpec("import", facts=facts)])


@handler(OVERRIDE_KIND, queue="io", title="Finish a slide with a given um per pixel")
def finish_with_mpp(ctx: JobContext) -> Done:
    """Checks a waiting slide again with the um per pixel that a person gave and makes it ready."""
    user = _sender(ctx)
    slide = get_slide(user, ctx.params["slide"])
    if slide.state == Import.State.READY and slide.mpp == ctx.params["mpp"]:
        return Done([OutputSpec("slide", facts={"slide": slide.pk, "state": slide.state})])  # a second delivery
    result = override_mpp(user, slide, ctx.params["mpp"], tick=ctx.check)
    return Done([OutputSpec("slide", facts={"slide": slide.pk, "state": result.state})])


def _work(ctx: JobContext, import_: Import, dry_run: bool, bring: Callable[..., Any]) -> Any:
    """The import itself; where it ends early, the row is left to a person with its bytes, and the job says why."""
    try:
        return bring(
            _sender(ctx),
            import_.cohort,
            store.path(import_.key),
            file_name=import_.file_name,
            dry_run=dry_run,
            import_=import_,
            tick=ctx.check,
            **import_.options,
        )
    except TissueboardError as refusal:
        park_import(import_, refusal.code, refusal.sentence, refusal.hint)
        raise
    except Cancelled:
        park_import(import_, IntakeCode.IMPORT_CANCELLED, "The import was cancelled.", "Confirm it to start again, or discard the file.")
        raise
    except DatabaseError:
        raise  # no verdict on the file: the sweeper queues the job again
    except Exception:
        hint = "Confirm it to try again; if it stops again, give the job's number to the people who run this server."
        park_import(import_, IntakeCode.IMPORT_FAILED, "The import stopped with an unexpected error.", hint)
        raise


def _sender(ctx: JobContext) -> User | None:
    return User.objects.filter(pk=ctx.created_by_id).first()


@handler(JOB_KINDS[Import.Kind.MULTIPLEX], queue="io", title="Import a multiplex image")
def import_uploaded_multiplex(ctx: JobContext) -> Done:
    """Imports (dry_run: checks) the image of an Import row as the person who sent it."""
    return bring_in(ctx, import_multiplex, "image")


@handler(COMPLETE_KIND, queue="io", title="Finish a multiplex image")
def finish_multiplex(ctx: JobContext) -> Done:
    """Checks a waiting image again with the channel names or um per pixel that a person gave and makes it ready."""
    user = _sender(ctx)
    image = get_image(user, ctx.params["image"])
    if image.state != MultiplexImage.State.READY:  # a second delivery finds it ready
        complete_multiplex(user, image, channels=ctx.params["channels"], mpp=ctx.params["mpp"], tick=ctx.check)
    return Done([OutputSpec("image", facts={"image": image.pk, "state": image.state})])
