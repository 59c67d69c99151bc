"""A wrong or missing variable stops the start with one sentence that names it, and shows no traceback and no password."""

import os
import subprocess
import sys

import pytest
from live_worker import ROOT

NOBODY = "127.0.0.1:1"  # no server listens there


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"postgres://u:hunter2@{NOBODY}/x"),
        ("DATABASE_URL", "mysql://u:hunter2@host/x"),
        ("DATABASE_URL", "hunter2"),
        ("REDIS_URL", "http://hunter2"),
        ("SECRET_KEY", "hunter2"),
        ("DEBUG", "maybe"),
        ("HTTPS", "yes"),
        ("UPLOAD_MAX_BYTES", "much"),
        ("TILE_TOKEN_SECONDS", "-5"),
        ("JOBS_SWEEP_SECONDS", "nan"),
        ("TISSUE_MASK", "magic"),
    ],
)
def test_a_wrong_variable_stops_the_start_and_is_named(name, value, tmp_path):
    ended = run(tmp_path, **{name: value})
    assert ended.returncode == 1
    assert name in ended.stderr and ended.stderr.rstrip().endswith(".")
    assert "Traceback" not in ended.stderr and "hunter2" not in ended.stdout + ended.stderr


def test_a_learned_tissue_mask_needs_its_folder(tmp_path):
    ended = run(tmp_path, TISSUE_MASK="learned", TISSUE_MASK_WEIGHTS=str(tmp_path / "nowhere"))
    assert ended.returncode == 1 and "TISSUE_MASK_WEIGHTS names no folder" in ended.stderr and "Traceback" not in ended.stderr


def test_a_queue_that_does_not_answer_stops_the_start(clean_redis, settings):
    from tissueboard.embedded.errors import EmbeddedServiceError
    from tissueboard.embedded.supervisor import check_queue

    check_queue()
    settings.REDIS_CLIENT_URL = f"redis://:hunter2@{NOBODY}/0"
    with pytest.raises(EmbeddedServiceError) as refused:
        check_queue()
    assert "REDIS_URL" in refused.value.hint and "hunter2" not in refused.value.sentence


def run(home, **variables: str) -> subprocess.CompletedProcess:
    ours = ("DJANGO_SETTINGS_MODULE", "DATABASE_URL", "REDIS_URL", "SECRET_KEY", "JOBS_EXTRA_HANDLERS")  # what the suite sets for itself
    keep = {name: value for name, value in os.environ.items() if name not in ours}
    # A server of DATABASE_URL that nobody asks: the variable under test is refused before, or is itself the server.
    environment = keep | {"TISSUEBOARD_HOME": str(home), "TISSUEBOARD_DEMO": "0", "DATABASE_URL": f"postgres://{NOBODY}/x"} | variables
    if "REDIS_URL" not in environment:
        environment["REDIS_URL"] = f"redis://{NOBODY}/0"
    command = [sys.executable, "manage.py", "run", "--port", "0"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
