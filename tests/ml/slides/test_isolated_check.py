"""The parser of strangers' files lives in a child: what kills the child becomes a finding, and nothing else happens."""

import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import imagecodecs
import psutil
import pytest
import tifffile

import ml
from ml.slides import isolate
from ml.slides.check import check_slide
from ml.slides.findings import FindingCode as Code
from ml.slides.findings import SlideError
from ml.slides.isolate import check_slide_isolated, failure_finding, make_working_isolated, run_isolated


@pytest.fixture
def child_module(tmp_path, monkeypatch):
    """Write a module that the child can run beside `ml`: child_module("name", "code")."""
    (tmp_path / "ml").symlink_to(Path(ml.__file__).parent, target_is_directory=True)
    monkeypatch.setattr(isolate, "ROOT", tmp_path)

    def write(code):
        (tmp_path / "hostile.py").write_text(code)
        return ["hostile"]

    return write


def test_the_child_gives_the_same_report(svs):
    assert check_slide_isolated(svs).to_dict() == check_slide(svs).to_dict()
    assert check_slide_isolated(svs, mpp=0.25).facts["mpp"] == 0.25


def test_a_child_that_hangs_is_stopped(child_module):
    begun = time.monotonic()
    result = run_isolated(child_module("import threading\nthreading.Event().wait()"), seconds=1, memory_mb=512)
    assert result.ended == "timeout" and time.monotonic() - begun < 10
    assert failure_finding("a.svs", result, 1, 512).code == Code.PARSER_TIMEOUT


def test_what_the_child_started_is_stopped_too(child_module, tmp_path):
    code = "import subprocess, sys, pathlib\np = subprocess.Popen(['sleep', '600'])\n"
    code += f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(p.pid))\np.wait()"
    assert run_isolated(child_module(code), seconds=2, memory_mb=512).ended == "timeout"
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int((tmp_path / "pid").read_text())).wait(timeout=10)  # raises TimeoutExpired if it lives on


def test_a_child_that_eats_memory_is_stopped(child_module):
    result = run_isolated(child_module("bytearray(10**10)"), seconds=20, memory_mb=512)
    assert result.ended == "memory"
    assert failure_finding("a.svs", result, 20, 512).code == Code.PARSER_OUT_OF_MEMORY


@pytest.mark.parametrize(("code", "detail"), [("import os\nos.kill(os.getpid(), 11)", "SIGSEGV"), ("raise KeyError('x')", "KeyError")])
def test_a_child_that_crashes(child_module, code, detail):
    result = run_isolated(child_module(code), seconds=20, memory_mb=512)
    assert (result.ended, result.detail) == ("crash", detail)
    finding = failure_finding("a.svs", result, 20, 512)
    assert finding.code == Code.PARSER_CRASHED and "/" not in finding.sentence


@pytest.mark.parametrize("code", ["", "print('no json')", "print('[1, 2]')"])
def test_a_child_without_an_answer_has_crashed(child_module, code):
    assert run_isolated(child_module(code), seconds=20, memory_mb=512).ended == "crash"


def test_no_secret_of_the_parent_reaches_the_child(child_module, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    result = run_isolated(child_module("import json, os\nprint(json.dumps(dict(os.environ)))"), seconds=20, memory_mb=512)
    assert result.answer and "DATABASE_URL" not in result.answer


def test_too_little_time_or_memory_waits_for_a_person_or_is_refused(svs):
    slow = check_slide_isolated(svs, seconds=0.01)
    assert (slow.state, slow.codes) == ("needs attention", {Code.PARSER_TIMEOUT})
    small = check_slide_isolated(svs, memory_mb=60)
    assert small.state != "ready" and small.codes <= {Code.PARSER_OUT_OF_MEMORY, Code.PARSER_CRASHED}


def test_a_decompression_bomb_stays_in_the_child(tmp_path):
    """One tile of 8192 x 8192 x 3 zeros (192 MiB) in a file of a few hundred kB."""
    path, side = tmp_path / "bomb.tif", 8192
    packed = imagecodecs.zlib_encode(bytes(side * side * 3), level=1)
    options = {"photometric": "rgb", "compression": "adobe_deflate", "metadata": None, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, iter([packed]), shape=(side, side, 3), dtype="uint8", tile=(side, side), resolution=(2e4, 2e4), **options)
    assert path.stat().st_size < 2_000_000
    report = check_slide_isolated(path, memory_mb=400)
    assert report.state != "ready"
    assert report.codes & {Code.PARSER_OUT_OF_MEMORY, Code.PARSER_CRASHED, Code.OPEN_FAILED, Code.TILE_UNREADABLE}


def test_the_heartbeat_ticks_and_can_stop_the_child(child_module):
    class Cancelled(Exception):
        pass

    def tick():
        raise Cancelled

    begun = time.monotonic()
    with pytest.raises(Cancelled):
        run_isolated(child_module("import threading\nthreading.Event().wait()"), 60, 512, tick)
    assert time.monotonic() - begun < 10


def test_a_working_slide_is_made_in_a_child(tmp_path, svs):
    facts = make_working_isolated(svs, tmp_path / "working.tif")
    assert facts["lossless"] and check_slide(tmp_path / "working.tif").state == "ready"


def test_the_childs_own_error_comes_through(tmp_path, picture, make_svs):
    original = make_svs(tmp_path / "a.svs", picture, mpp=None)
    with pytest.raises(SlideError) as caught:
        make_working_isolated(original, tmp_path / "working.tif")
    assert caught.value.code == Code.MPP_MISSING and caught.value.hint
    assert os.listdir(tmp_path) == ["a.svs"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a child that its parent died")
def test_a_child_ends_with_a_killed_parent(tmp_path):
    os.mkfifo(tmp_path / "in")
    asked = ["ml.slides.geojson_child", str(tmp_path / "in"), *map(str, (tmp_path / "out", tmp_path / "told", 9, 9, 0, 0))]
    code = f"from ml.slides.isolate import run_isolated; run_isolated({asked!r}, 60.0, 2048)"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    with (tmp_path / "in").open("wb", buffering=0) as end:  # waits until the child opens the other end to read
        parent.kill()
        parent.wait()
        reader = select.poll()
        reader.register(end, 0)
        assert reader.poll(20_000), "the child still reads"
