"""People, cohorts and tables for the tests of intake."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def store_folder(settings, tmp_path: Path) -> Path:
    """A store of its own for the test."""
    settings.STORE_ROOT = tmp_path / "store"
    return settings.STORE_ROOT


@pytest.fixture
def people(db) -> dict:
    """manager, contributor and viewer of the cohort `ours`; outsider of none."""
    from tissueboard.accounts.models import User

    return {
        name: User.objects.create_user(name, password="a long pass phrase") for name in ("manager", "contributor", "viewer", "outsider")
    }


@pytest.fixture
def cohort(people):
    from tissueboard.cohorts.models import Membership
    from tissueboard.cohorts.services import create_cohort

    made = create_cohort(people["manager"], "ours")
    for name in ("contributor", "viewer"):
        Membership.objects.create(cohort=made, user=people[name], role=name)
    return made


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Path]:
    """`write_csv("a.csv", [["id", "age"], ["P1", 50]])` gives the path of a table."""

    def write(name: str, rows: list[list], *, encoding: str = "utf-8", separator: str = ",") -> Path:
        out = io.StringIO()
        csv.writer(out, delimiter=separator, lineterminator="\n").writerows(rows)
        path = tmp_path / name
        path.write_bytes(out.getvalue().encode(encoding))
        return path

    return write
