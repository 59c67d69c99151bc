"""The check and the conversion of a multiplex image in a child process with limits (see ml.slides.isolate)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml.slides.check import SlideReport
from ml.slides.findings import FindingCode, SlideError
from ml.slides.isolate import failure_finding, run_isolated

MODULE = "ml.multiplex.convert"
Panel = Sequence[tuple[str, bool]]


def check_multiplex_isolated(
    path: str | Path, channels: Sequence[str] | None = None, mpp: float | None = None, seconds: float = 300, memory_mb: int = 4096,
    panel: Panel | None = None,
) -> SlideReport:  # fmt: skip
    """`ml.multiplex.convert.check_multiplex` in a child process; a crash, a timeout or too much memory becomes a finding."""
    from ml.multiplex.convert import multiplex_report

    path = Path(path).resolve()
    result = run_isolated([MODULE, "check", str(path), _asked(channels, mpp, panel)], seconds, memory_mb)
    if result.ended == "ok" and result.answer is not None:
        return SlideReport.from_dict(result.answer)
    return multiplex_report(path, [failure_finding(path.name, result, seconds, memory_mb)], {})


def convert_multiplex_isolated(
    path: str | Path,
    target: str | Path,
    channels: Sequence[str] | None = None,
    mpp: float | None = None,
    seconds: float = 4 * 3600,
    memory_mb: int = 6144,
    tick: Callable[[], None] | None = None,
    panel: Panel | None = None,
) -> dict[str, Any]:
    """`ml.multiplex.convert.convert_multiplex` in a child process; the facts of the image.

    tick: called about once a second (heartbeat); if it raises, the child is killed and the error goes on. A killed child leaves a part of
    `target`: the caller removes it. Error: SlideError with the child's own code, or PARSER_CRASHED, PARSER_TIMEOUT, PARSER_OUT_OF_MEMORY.
    """
    path = Path(path).resolve()
    arguments = [MODULE, "convert", str(path), str(Path(target).resolve()), _asked(channels, mpp, panel)]
    result = run_isolated(arguments, seconds, memory_mb, tick)
    if result.ended != "ok" or result.answer is None:
        finding = failure_finding(path.name, result, seconds, memory_mb)
        raise SlideError(FindingCode(finding.code), finding.sentence, finding.hint, finding.where)
    if "error" in result.answer:
        error = result.answer["error"]
        raise SlideError(FindingCode(error["code"]), error["sentence"], error["hint"], error["where"])
    return result.answer


def _asked(channels: Sequence[str] | None, mpp: float | None, panel: Panel | None) -> str:
    rows = [list(row) for row in panel] if panel else None
    return json.dumps({"channels": list(channels) if channels else None, "mpp": mpp, "panel": rows})
