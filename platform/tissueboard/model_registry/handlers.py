"""Job kinds of the model registry."""

from tissueboard.accounts.models import User
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.jobs.registry import handler


@handler("model_registry.add_encoder", queue="cpu", title="Bring an encoder into use")
def add_encoder(ctx: JobContext) -> Done:
    """Checks the file of params["encoder"] in the weights folder, copies it into the store and registers it."""
    from tissueboard.errors import TissueboardError

    from .encoders import prepared, publish, require_staff

    user = User.objects.filter(pk=ctx.created_by_id).first()
    try:
        require_staff(user)
        ctx.progress(0.1, "checking and copying the weights")
        found = prepared(ctx.params["encoder"])
    except TissueboardError as error:
        raise JobRefused(error.code, error.sentence, error.hint) from error
    return Done([OutputSpec("encoder", found.key, {"sha256": found.sha256, "name": found.name})], lambda: publish(user, found))
