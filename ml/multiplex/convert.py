"""Multiplex images (CODEX, IMC, MIBI, Vectra ...): the intake check, and the conversion, once, to an OME-Zarr pyramid.

As a command it works for ml.slides.isolate: `python -m ml.multiplex.convert check PATH JSON` or `convert PATH TARGET JSON`, where the JSON
holds channels, mpp and panel; it prints one line of JSON.
"""

from __future__ import annotations

import errno
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ml.multiplex.files import open_multiplex
from ml.multiplex.header import cleaned, distinct
from ml.multiplex.panels import PanelRow, names_by_panel
from ml.multiplex.signal import SATURATED_SHARE, Signal
from ml.multiplex.tiff_file import MultiplexFile
from ml.multiplex.zarr_pyramid import write_pyramid
from ml.slides.check import NEEDS_ATTENTION, READY, REJECTED, SlideReport
from ml.slides.findings import Finding, FindingCode, Severity, SlideError
from ml.slides.sniff import content_kind

Panel = Sequence[tuple[str, bool]]  # (name, whether it is kept) per row, ml.multiplex.panels.PanelRow
BAND_ROWS = 256
LEAST_SIDE = 128  # of VirTues' crops, spec 0
SAMPLED_BANDS = 16  # images of up to 16 x 256 rows are looked at whole
PLAUSIBLE_MPP = (0.05, 10.0)  # um per pixel: from a 100x objective to coarse imaging mass cytometry
USUAL = {"uint8", "uint16", "float32"}
TAKEN = USUAL | {"int8", "int16", "uint32", "int32", "float64"}
# Errors that a person can lift: by naming the channels, by an mpp, by trying again.
ATTENTION = {
    FindingCode.CHANNEL_NAMES_MISSING,
    FindingCode.CHANNEL_COUNT_DIFFERS,
    FindingCode.MPP_MISSING,
    FindingCode.MPP_IMPLAUSIBLE,
    FindingCode.MPP_ANISOTROPIC,
    FindingCode.PARSER_TIMEOUT,
    FindingCode.PARSER_OUT_OF_MEMORY,
}
MPP_HINT = "Give it: --mpp 1.0 for imaging mass cytometry, about 0.5 for a 20x scan (the instrument's value)."


def check_multiplex(
    path: str | Path, channels: Sequence[str] | None = None, mpp: float | None = None, panel: Panel | None = None
) -> SlideReport:
    """Everything that can be said about a multi-channel image before it is taken in. Never raises for what is inside the file.

    channels: names in the order of the planes, mpp: um per pixel, as a person states them; both win over the file. panel: rows of a panel
    that she gave with it; it wins over one beside the image, and names win over both.
    facts (where known): bytes, kind, format, width, height (px), n_channels, channels (names as they would be kept), names_source (file,
    panel, given), dtype, mpp, mpp_source (header, override), header_mpp, signal (a dict per channel, ml.multiplex.signal.Signal.facts),
    signal_estimated (True: from 16 bands of rows spread over the image).
    """
    path = Path(path)
    facts: dict[str, Any] = {}
    if path.is_file():
        facts = {"bytes": path.stat().st_size, "kind": content_kind(path)}
    findings: list[Finding] = []
    try:
        with open_multiplex(path) as opened:
            facts |= {"format": opened.format, "width": opened.width, "height": opened.height}
            facts |= {"n_channels": opened.n_channels, "dtype": str(opened.dtype)}
            findings += opened.findings
            findings += _number_type(opened)
            if any(f.severity == Severity.ERROR for f in findings):
                return multiplex_report(path, findings, facts)
            findings += _names(opened, channels, panel, facts)
            findings += _physical_size(opened, mpp, facts)
            findings += _side(opened)
            facts["signal"], facts["signal_estimated"] = _look(opened)
            findings += signal_findings(path.name, opened.dtype, facts.get("channels"), facts["signal"], facts["signal_estimated"])
    except SlideError as error:
        findings.append(error.finding(path.name))
    return multiplex_report(path, findings, facts)


def multiplex_report(path: Path, findings: list[Finding], facts: dict[str, Any]) -> SlideReport:
    """A report whose state follows from its findings."""
    errors = {finding.code for finding in findings if finding.severity == Severity.ERROR}
    state = READY if not errors else (NEEDS_ATTENTION if errors <= ATTENTION else REJECTED)
    return SlideReport(path.name, state, findings, facts)


def convert_multiplex(
    path: str | Path,
    target: str | Path,
    channels: Sequence[str] | None = None,
    mpp: float | None = None,
    tick: Callable[[float], None] | None = None,
    panel: Panel | None = None,
) -> dict[str, Any]:
    """Writes the image as an OME-Zarr pyramid to `target` (a folder that must not exist) and gives its facts: those of the check, and
    `signal` counted over every pixel.

    Memory: a band of 1024 rows per level, whatever the height. Error: SlideError with the first error of the check, or of reading;
    then there is no `target`.
    """
    path, target = Path(path), Path(target)
    try:
        with open_multiplex(path) as opened:
            facts: dict[str, Any] = {"format": opened.format, "width": opened.width, "height": opened.height, "dtype": str(opened.dtype)}
            findings = opened.findings + _number_type(opened) + _names(opened, channels, panel, facts)
            findings += _physical_size(opened, mpp, facts)
            for finding in findings:
                if finding.severity == Severity.ERROR:
                    raise SlideError(FindingCode(finding.code), finding.sentence, finding.hint, finding.where)
            shape = (opened.n_channels, opened.height, opened.width)

            def bands(channel: int) -> Iterator[NDArray[Any]]:
                with opened.plane(channel) as plane:
                    for top in range(0, opened.height, BAND_ROWS):
                        yield plane.rows(top, min(top + BAND_ROWS, opened.height))

            facts["signal"] = write_pyramid(target, shape, opened.dtype, bands, facts["channels"], facts["mpp"], tick)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return facts | {"n_channels": shape[0], "signal_estimated": False}


def signal_findings(file: str, dtype: Any, names: Sequence[str] | None, signal: list[dict[str, Any]], estimated: bool) -> list[Finding]:
    """Channels without any signal, with saturated pixels, or with values that are no numbers. An image without any signal is an error."""
    label = [(names[i] if names else f"channel {i + 1}") for i in range(len(signal))]
    said = " in the rows looked at" if estimated else ""
    empty = [n for n, f in zip(label, signal) if not f["max"] > f["min"]]
    burnt = [n for n, f in zip(label, signal) if f["saturated"] > SATURATED_SHARE and f["max"] > f["min"]]
    holes = [n for n, f in zip(label, signal) if f["not_finite"] > 0]
    found = []
    if empty and len(empty) == len(signal):
        sentence = f"No channel has any signal{said}: every pixel has the same value."
        found.append(
            _finding(file, FindingCode.CHANNEL_EMPTY, Severity.ERROR, sentence, "Look at the file; it was not acquired or not exported.")
        )
    elif empty:
        sentence = f"{_channels(len(empty))} without signal{said}: every pixel has the same value."
        found.append(
            _finding(
                file, FindingCode.CHANNEL_EMPTY, Severity.WARNING, sentence, "Do not read absence of the marker from it.", _some(empty)
            )
        )
    if burnt:
        sentence = f"{_channels(len(burnt))} with more than {SATURATED_SHARE:.1%} of the pixels at the largest value of {dtype}{said}."
        hint = "Differences among the brightest cells are lost there."
        found.append(_finding(file, FindingCode.CHANNEL_SATURATED, Severity.WARNING, sentence, hint, _some(burnt)))
    if holes:
        sentence = f"{_channels(len(holes))} with pixels that are no finite numbers{said}; they are left out and drawn black."
        found.append(_finding(file, FindingCode.CHANNEL_NOT_FINITE, Severity.WARNING, sentence, "Check the export.", _some(holes)))
    return found


def _number_type(opened: MultiplexFile) -> list[Finding]:
    kind = str(opened.dtype)
    if kind in USUAL:
        return []
    if kind in TAKEN:
        sentence = f"The pixels are stored as {kind}, which instruments rarely write; they are kept as they are."
        return [
            _finding(opened.name, FindingCode.DTYPE_UNUSUAL, Severity.WARNING, sentence, "Check that this is no mask or export of one.")
        ]
    sentence = f"The pixels are stored as {kind}; measured channels are 8- or 16-bit integers or 32-bit floats."
    hint = "Export it with 16 bits or as float; label masks are not imported here."
    return [_finding(opened.name, FindingCode.DTYPE_UNSUPPORTED, Severity.ERROR, sentence, hint)]


def _names(opened: MultiplexFile, given: Sequence[str] | None, panel: Panel | None, facts: dict[str, Any]) -> list[Finding]:
    n, names, source = opened.n_channels, opened.names, "file"
    if given:
        names, source = [cleaned(name) for name in given], "given"
    elif rows := panel or opened.panel:
        try:
            names, source = names_by_panel([PanelRow(*row) for row in rows], n), "panel"
        except SlideError as error:
            return [error.finding(opened.name)]
    if names is None:
        sentence = f"The file has {n} channel{'s' * (n > 1)} and does not say what {'they are' if n > 1 else 'it is'}."
        hint = "Give their names in the order of the planes, e.g. --channels H3,CD99,CD8a."
        return [_finding(opened.name, FindingCode.CHANNEL_NAMES_MISSING, Severity.ERROR, sentence, hint)]
    if len(names) != n or (given and not all(names)):
        sentence = f"The file has {n} channel{'s' * (n > 1)}, but {sum(map(bool, names))} names were given."
        hint = "Give one name per channel, in the order of the planes."
        return [_finding(opened.name, FindingCode.CHANNEL_COUNT_DIFFERS, Severity.ERROR, sentence, hint)]
    kept = distinct(names)
    facts["channels"], facts["names_source"] = kept, source
    changed = [new for old, new in zip(names, kept) if old != new]
    if not changed:
        return []
    sentence = f"{len(changed)} names were empty or there already; they are kept with a number."
    return [
        _finding(
            opened.name, FindingCode.CHANNEL_NAMES_DUPLICATE, Severity.WARNING, sentence, "Give other names if they differ.", _some(changed)
        )
    ]


def _physical_size(opened: MultiplexFile, given: float | None, facts: dict[str, Any]) -> list[Finding]:
    name, low, high = opened.name, *PLAUSIBLE_MPP
    header = None if opened.mpp_xy is None else sum(opened.mpp_xy) / 2
    mpp = given if given is not None else header
    facts |= {"header_mpp": header, "mpp": mpp, "mpp_source": "override" if given is not None else "header" if header else ""}
    if mpp is None:
        sentence = "The image does not say how many micrometres a pixel is."
        return [_finding(name, FindingCode.MPP_MISSING, Severity.ERROR, sentence, MPP_HINT)]
    if not low <= mpp <= high:
        facts["mpp"] = None
        whose = "You state" if given is not None else "The file states"
        sentence = f"{whose} {mpp:.4g} um per pixel, which no such instrument has (often a default of the program that saved it)."
        return [_finding(name, FindingCode.MPP_IMPLAUSIBLE, Severity.ERROR, sentence, MPP_HINT)]
    if given is None and opened.mpp_xy and abs(math.log(opened.mpp_xy[0] / opened.mpp_xy[1])) > 0.05:
        x, y = opened.mpp_xy
        sentence = f"A pixel is {x:.3g} um wide and {y:.3g} um high; square pixels are needed."
        return [_finding(name, FindingCode.MPP_ANISOTROPIC, Severity.ERROR, sentence, "If they are square, give their size with --mpp.")]
    if given is not None and header is not None and low <= header <= high and abs(math.log(header / given)) > 0.1:
        sentence = f"The file states {header:.4g} um per pixel, you state {given:.4g}; yours is used."
        return [_finding(name, FindingCode.MPP_CONFLICT, Severity.WARNING, sentence, "Check the instrument's settings.")]
    return []


def _side(opened: MultiplexFile) -> list[Finding]:
    if min(opened.width, opened.height) >= LEAST_SIDE:
        return []
    sentence = f"The image has {opened.width} x {opened.height} pixels; VirTues looks at squares of {LEAST_SIDE}."
    hint = "It can be viewed, but cells and niches cannot be described by that model."
    return [_finding(opened.name, FindingCode.TOO_SMALL_FOR_CROPS, Severity.WARNING, sentence, hint)]


def _look(opened: MultiplexFile) -> tuple[list[dict[str, Any]], bool]:
    """Facts of every channel from at most 16 bands of rows, the first and the last among them."""
    n = -(-opened.height // BAND_ROWS)
    bands = sorted({round(i * (n - 1) / (SAMPLED_BANDS - 1)) for i in range(SAMPLED_BANDS)})
    found = []
    for channel in range(opened.n_channels):
        signal = Signal(opened.dtype)
        with opened.plane(channel) as plane:
            for band in bands:
                signal.add(plane.rows(band * BAND_ROWS, min((band + 1) * BAND_ROWS, opened.height)))
        found.append(signal.facts())
    return found, n > len(bands)


def _channels(n: int) -> str:
    return "One channel is" if n == 1 else f"{n} channels are"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _finding(file: str, code: FindingCode, severity: Severity, sentence: str, hint: str, where: str = "") -> Finding:
    return Finding(code, severity, file, where, sentence, hint)


def main(arguments: list[str] | None = None) -> int:
    """Print the report, or the facts of the conversion ({"error": ...} where it failed), as a line of JSON."""
    verb, path, *rest = arguments if arguments is not None else sys.argv[1:]
    asked = json.loads(rest[-1])
    if verb == "check":
        print(json.dumps(check_multiplex(path, asked["channels"], asked["mpp"], asked["panel"]).to_dict()))
        return 0
    try:
        print(json.dumps(convert_multiplex(path, rest[0], asked["channels"], asked["mpp"], panel=asked["panel"])))
    except SlideError as error:
        told = {"code": str(error.code), "sentence": error.sentence, "hint": error.hint, "where": error.where}
        print(json.dumps({"error": told}))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sentence, hint = "The disk is full: the image could not be converted.", "Make room and try again; the original is unharmed."
        print(json.dumps({"error": {"code": str(FindingCode.DISK_FULL), "sentence": sentence, "hint": hint, "where": ""}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
