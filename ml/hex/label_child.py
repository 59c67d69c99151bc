"""Large label tables of strangers are read in a child process with limits on memory and time (ml.slides.isolate).

Usage of the child: python -m ml.hex.label_child TABLE TARGET.npz MARKERS_JSON; it prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ml.hex.errors import HexDataError
from ml.hex.label_tables import LabelTable, read_label_table
from ml.slides.isolate import failure_finding, run_isolated

MODULE = "ml.hex.label_child"
SECONDS, MEMORY_MB = 120.0, 4096
SMALL = 256 << 10  # bytes; a table of this size is read in a moment, whatever is in it


def read_label_table_isolated(path: str | Path, markers: Sequence[str] | None = None, file: str = "") -> LabelTable:
    """`read_label_table`, in a child process where the table is large. file: the name to tell a person instead of the path's.

    Errors: HexDataError as `read_label_table`, or parser_crashed, parser_timeout, parser_out_of_memory.
    """
    path = Path(path).resolve()
    try:
        if path.is_file() and path.stat().st_size <= SMALL:
            return read_label_table(path, markers)
        return _in_child(path, markers, file)
    except HexDataError as error:
        if not file:
            raise
        sentence, where = (text.replace(path.name, file) for text in (error.sentence, error.where))
        raise HexDataError(error.code, sentence, error.hint, where) from error


def _in_child(path: Path, markers: Sequence[str] | None, file: str) -> LabelTable:
    with tempfile.TemporaryDirectory(prefix="tissueboard-labels-") as folder:
        target = Path(folder) / "table.npz"
        asked = json.dumps(None if markers is None else list(markers))
        result = run_isolated([MODULE, str(path), str(target), asked], SECONDS, MEMORY_MB)
        if result.ended != "ok" or result.answer is None:
            finding = failure_finding(file or path.name, result, SECONDS, MEMORY_MB)
            sentence = finding.sentence.replace("slide reader", "reader of tables")
            raise HexDataError(finding.code.lower(), sentence, "Look at the table, or write it again.", file or path.name)
        if "error" in result.answer:
            raise HexDataError(**result.answer["error"])
        with np.load(target, allow_pickle=False) as held:
            return LabelTable(**{name: held[name] for name in held.files}, markers=tuple(result.answer["markers"]))


def main(arguments: list[str]) -> dict[str, Any]:
    """Reads one table and writes its arrays; the answer holds the markers, or what is wrong."""
    try:
        table = read_label_table(arguments[0], json.loads(arguments[2]))
    except HexDataError as error:
        return {"error": {"code": error.code, "sentence": error.sentence, "hint": error.hint, "where": error.where}}
    np.savez(arguments[1], slide=table.slide, index=table.index, xy=table.xy, values=table.values)
    return {"n": len(table), "markers": list(table.markers)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
