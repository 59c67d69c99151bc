"""The job that imports an uploaded slide."""

from __future__ import annotations

from tissueboard.accounts.models import User
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.registry import handler
from tissueboard.store import store

from .errors import IntakeCode, IntakeRefused
from .selectors import get_import
from .services import import_slide
from .uploads import JOB_KIND, drop_bytes


@handler(JOB_KIND, queue="io", title="Import a slide")
def run(ctx: JobContext) -> Done:
    """Imports (dry_run: checks) the slide of an Import row as the person who sent it. A second delivery finds the slide and ends well."""
    user = User.objects.filter(pk=ctx.created_by_id).first()
    import_ = get_import(user, ctx.params["import"])
    path = store.path(import_.key) if import_.key else None
    if path is None or not path.is_file():
        if "slide" in import_.facts or import_.state == "rejected":
            return Done([OutputSpec("import", facts={"import": import_.pk, "state": import_.state})])
        raise IntakeRefused(IntakeCode.FILE_MISSING, "The uploaded bytes are no longer there.", "Send the file again.")
    dry_run = bool(ctx.params.get("dry_run"))
    ctx.progress(0.05, "checking")
    result = import_slide(
        user,
        import_.cohort,
        path,
        file_name=import_.file_name,
        dry_run=dry_run,
        import_=import_,
        tick=ctx.check,
        **import_.options,
    )
    if not dry_run or result.state == "rejected":
        drop_bytes(import_)
    ctx.progress(1.0, result.state)
    facts = {"import": import_.pk, "state": result.state, "slide": result.slide.pk if result.slide else None}
    return Done([OutputSpec("import", facts=facts)])
