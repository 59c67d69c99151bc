"""Work on files of strangers in a child process with limits on memory and time, so that a bad file takes down nothing but the child.

The child is started by name (`python -m ml.slides...`), so nothing of the parent's memory, handles or secrets reaches it: it gets
a bare environment, its own session, an address-space limit, and is killed with all its children when its time is over.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ml
from ml.slides.check import SlideReport, report_of
from ml.slides.child import OUT_OF_MEMORY_EXIT
from ml.slides.findings import Finding, FindingCode, Severity, SlideError

ROOT = Path(ml.__file__).resolve().parents[1]
MAX_ANSWER = 1 << 20
TICK_SECONDS = 1.0
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "TZ")


@dataclass(frozen=True)
class ChildResult:
    """What became of a child. ended: ok, timeout, memory or crash. answer: its last line of output, parsed. detail: for staff."""

    ended: str
    answer: dict[str, Any] | None
    detail: str


def check_slide_isolated(path: str | Path, mpp: float | None = None, seconds: float = 60, memory_mb: int = 4096) -> SlideReport:
    """`check_slide` in a child process; a crash, a timeout or too much memory becomes a finding. Never raises for the file."""
    path = Path(path).resolve()
    arguments = ["ml.slides.check", str(path)] + ([] if mpp is None else ["--mpp", repr(float(mpp))])
    result = run_isolated(arguments, seconds, memory_mb)
    if result.ended == "ok" and result.answer is not None:
        return SlideReport.from_dict(result.answer)
    return report_of(path, [failure_finding(path.name, result, seconds, memory_mb)])


def make_working_isolated(
    path: str | Path,
    target: str | Path,
    mpp: float | None = None,
    seconds: float = 3600,
    memory_mb: int = 4096,
    tick: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """`ml.slides.scrub.make_working` in a child process; the facts of the working slide (WorkingSlide.to_dict()).

    tick: called about once a second while the child works (heartbeat); if it raises, the child is killed and the error goes on.
    Error: SlideError with the child's own code, or PARSER_CRASHED, PARSER_TIMEOUT, PARSER_OUT_OF_MEMORY.
    """
    path = Path(path).resolve()
    arguments = ["ml.slides.scrub", str(path), str(Path(target).resolve())] + ([] if mpp is None else ["--mpp", repr(float(mpp))])
    result = run_isolated(arguments, seconds, memory_mb, tick)
    if result.ended != "ok" or result.answer is None:
        finding = failure_finding(path.name, result, seconds, memory_mb)
        raise SlideError(FindingCode(finding.code), finding.sentence, finding.hint, finding.where)
    if "error" in result.answer:
        error = result.answer["error"]
        raise SlideError(FindingCode(error["code"]), error["sentence"], error["hint"], error["where"])
    return result.answer


def failure_finding(file: str, result: ChildResult, seconds: float, memory_mb: int) -> Finding:
    """The finding for a child that gave no answer."""
    if result.ended == "timeout":
        code, sentence = FindingCode.PARSER_TIMEOUT, f"Reading the file took longer than {seconds:g} seconds and was stopped."
        hint = "The file may be damaged; if it is only large, try again with a longer limit."
    elif result.ended == "memory":
        code, sentence = FindingCode.PARSER_OUT_OF_MEMORY, f"Reading the file needed more than {memory_mb} MB of memory and was stopped."
        hint = "The file may be damaged or made to harm; if it is a real slide, try again with a higher limit."
    else:
        code, sentence = FindingCode.PARSER_CRASHED, f"The slide reader crashed on this file ({result.detail})."
        hint = "The file is most likely damaged: copy or export it again."
    return Finding(code, Severity.ERROR, file, "", sentence, hint)


def run_isolated(arguments: list[str], seconds: float, memory_mb: int, tick: Callable[[], None] | None = None) -> ChildResult:
    """Run `python -m MODULE ARG...` under limits (arguments[0] is the module) and read the JSON object on its last line."""
    command = [sys.executable, "-m", "ml.slides.child", str(memory_mb), str(int(seconds) + 5), *arguments]
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    environment |= {"PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment, cwd=ROOT, start_new_session=True
        )
        try:
            code = _wait(process, seconds, tick)
        except subprocess.TimeoutExpired:
            return ChildResult("timeout", None, f"stopped after {seconds:g} s")
        finally:
            _end(process)
        return _result(code, _tail(output), _tail(errors))


def _wait(process: subprocess.Popen[bytes], seconds: float, tick: Callable[[], None] | None) -> int:
    """Exit status; subprocess.TimeoutExpired when the time is over."""
    end = time.monotonic() + seconds
    while tick is not None and (left := end - time.monotonic()) > TICK_SECONDS:
        tick()
        with suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=min(TICK_SECONDS, left))
    return process.wait(timeout=max(0.0, end - time.monotonic()))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the child's whole session, so that nothing it started stays."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _result(code: int, output: str, errors: str) -> ChildResult:
    if code == OUT_OF_MEMORY_EXIT:
        return ChildResult("memory", None, "memory limit reached")
    if code == -signal.SIGXCPU:
        return ChildResult("timeout", None, "processor time limit reached")
    if code != 0:
        name = signal.Signals(-code).name if code < 0 else (errors.strip().splitlines() or [f"exit status {code}"])[-1].split(":")[0]
        return ChildResult("crash", None, name)
    lines = output.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        return ChildResult("crash", None, "no answer")
    return ChildResult("ok", answer, "")


def _tail(stream: IO[bytes]) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - MAX_ANSWER))
    return stream.read().decode(errors="replace")
