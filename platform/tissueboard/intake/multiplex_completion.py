"""What a person adds to an image that waits for her, as a job: a large image takes minutes."""

from __future__ import annotations

from typing import Any

from tissueboard.assays.errors import AssayCode, AssayRefused
from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.access import Role, require
from tissueboard.jobs.models import Job, State
from tissueboard.jobs.services import enqueue

from .multiplex_import import may_complete
from .uploads import channel_names, positive_number

COMPLETE_KIND = "assays.complete_multiplex"


def request_completion(user: Any, image: MultiplexImage, *, channels: Any = None, mpp: Any = None) -> Job:
    """`complete_multiplex` as a job on `io`. Needs contributor; asking twice gives the same job until it has ended.

    channels: names as a list or as typed (one a line, or with commas); mpp: a number or what a person typed; at least one of them, unless
    both are known and the image waits for something else (a full disk, a limit of time): then it is tried again.
    Errors: NotVisible, RoleMissing, AssayRefused (IMAGE_STATE with 409, NOTHING_GIVEN), IntakeRefused BAD_MAPPING.
    """
    cohort = image.sample.patient.cohort
    require(user, cohort, Role.CONTRIBUTOR)
    may_complete(image)
    names = channel_names(channels) if channels else None
    size = positive_number(mpp) if mpp not in (None, "") else None
    if names is None and size is None and not (image.channels and image.mpp):
        raise AssayRefused(AssayCode.NOTHING_GIVEN, "Neither channel names nor um per pixel were given.", "Give what the findings ask for.")
    # The same answer may be given again after an attempt that ended in another finding.
    attempts = Job.objects.filter(kind=COMPLETE_KIND, params__image=image.pk, state=State.SUCCEEDED).count()
    params = {"image": image.pk, "channels": names, "mpp": size}
    return enqueue(user, COMPLETE_KIND, params, cohorts=[cohort], key=f"after {attempts}")
