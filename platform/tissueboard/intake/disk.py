"""A full disk is no verdict on a file: it is said as such, and what was received stays."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ml.slides.findings import FindingCode, SlideError

from .errors import IntakeCode, IntakeRefused

FULL = (errno.ENOSPC, errno.EDQUOT)
SENTENCE = "The server's disk is full: the file could not be written."
HINT = "Ask the people who run this server to make room, then confirm or import it again; what was received is kept."


@contextmanager
def full_disk_refused() -> Iterator[None]:
    """Turns an OSError of a full disk into IntakeRefused DISK_FULL (507); every other error goes on."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise refusal() from error
        raise


def refusal() -> IntakeRefused:
    return IntakeRefused(IntakeCode.DISK_FULL, SENTENCE, HINT, status=507)


def as_finding(error: OSError) -> SlideError:
    """The same for the record of a slide; the error goes on if it is another one."""
    if error.errno not in FULL:
        raise error
    return SlideError(FindingCode.DISK_FULL, SENTENCE, HINT)
