"""Who imports from the command line, and into which cohort."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError
from django.db import transaction

from tissueboard.accounts.models import User
from tissueboard.cohorts.models import Cohort
from tissueboard.cohorts.services import create_cohort

DEMO_MANAGER = "manager"


def user_for_command(name: str | None) -> User | None:
    """The named person; None (the house itself) without a name. CommandError if there is no such person."""
    if name is None:
        return None
    user = User.objects.filter(username=name, is_active=True).first()
    if user is None:
        raise CommandError(f"There is no active user {name}.")
    return user


@contextmanager
def cohort_for_command(user: User | None, name: str, create: bool, dry_run: bool, say: Callable[[str], Any]) -> Iterator[Cohort]:
    """The cohort of that name, made first if asked for. In a dry run a new cohort is gone again afterwards.

    Whoever starts a command on the server may import into any cohort; with a name the person's own role counts.
    A new cohort belongs to the named person, else to the first superuser, else to the demo's manager; without any of them to nobody yet.
    """
    cohort = Cohort.objects.filter(name=name).first()
    if cohort is not None:
        yield cohort
        return
    if not create:
        raise CommandError(f"There is no cohort {name}; add --create-cohort to make it.")
    with transaction.atomic():
        owner = user or _default_owner()
        cohort = create_cohort(owner, name)
        if dry_run:
            yield cohort
            transaction.set_rollback(True)
            return
    say(f"The cohort {name} was made; " + (f"its manager is {owner}." if owner else "nobody is a member of it yet."))
    yield cohort


def _default_owner() -> User | None:
    active = User.objects.filter(is_active=True)
    return active.filter(is_superuser=True).order_by("pk").first() or active.filter(username=DEMO_MANAGER).first()
