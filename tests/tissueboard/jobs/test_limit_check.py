"""Redis must not hand a running job to a second worker: the start is refused where it would."""

import pytest

from tissueboard.jobs import registry
from tissueboard.jobs.checks import limits


def test_the_limits_of_all_kinds_are_in_order():
    assert limits(None) == []


@pytest.mark.parametrize("hard, soft, visibility", [(100, 90, 100), (100, 100, 200), (100, 0, 200), (100, 90, 80)])
def test_limits_out_of_order_are_refused(settings, hard, soft, visibility):
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": visibility}
    settings.JOBS_HARD_SECONDS, settings.JOBS_SOFT_SECONDS = hard, soft
    found = {error.id for error in limits(None)}
    assert "jobs.E001" in found


def test_a_kind_with_limits_out_of_order_is_named(monkeypatch):
    monkeypatch.setattr(registry, "_handlers", dict(registry._handlers))
    registry.handler("tests.too_long", queue="tpu", title="Too long", soft_seconds=10, hard_seconds=10**6)(lambda ctx: None)
    assert {error.id for error in limits(None)} == {"jobs.E001", "jobs.E003"}
    assert any("tests.too_long" in error.msg for error in limits(None))


def test_two_heartbeats_fit_into_silence(settings):
    settings.JOBS_SILENT_SECONDS = settings.JOBS_HEARTBEAT_SECONDS
    assert "jobs.E002" in {error.id for error in limits(None)}


def test_two_handlers_cannot_claim_one_kind(monkeypatch):
    monkeypatch.setattr(registry, "_handlers", dict(registry._handlers))
    with pytest.raises(ValueError, match=r"Two handlers claim the job kind 'tests\.echo'"):
        registry.handler("tests.echo", queue="io", title="Other")(lambda ctx: None)
