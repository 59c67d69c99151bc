"""Cells of an image, a mask and a table of them, brought in by a child process with limits (see ml.slides.isolate).

`python -m ml.multiplex.cells JSON` writes the mask as zarr and the table as Parquet and prints a line of JSON.
"""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ml.multiplex.cell_tables import CellTable, Columns, match_findings, read_cell_table
from ml.multiplex.mask_files import read_labels, write_mask
from ml.multiplex.masks import cell_areas, mask_facts, mask_findings, read_mask
from ml.slides.findings import Finding, FindingCode, Severity, SlideError
from ml.slides.isolate import failure_finding, run_isolated

MODULE = "ml.multiplex.cells"
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Cells:
    """What came in. mask: facts of ml.multiplex.masks.mask_facts; table: of CellTable.facts, None without one. findings: of both."""

    mask: dict[str, Any]
    table: dict[str, Any] | None
    findings: list[Finding] = field(default_factory=list)


def bring_cells(
    mask: str | Path, size: tuple[int, int], mpp: float, mask_target: str | Path, table: str | Path | None = None,
    table_target: str | Path | None = None, columns: Columns | None = None, names: tuple[str, str] = ("", ""),
) -> Cells:  # fmt: skip
    """Checks and writes the cells of an image of `size` (width, height) px and `mpp` um per px. names: of the two files, for the findings.

    mask: a file that ml.multiplex.masks reads, or a mask of our own (a folder), which is then not written again. SlideError with what is
    wrong.
    """
    own = Path(mask).is_dir()
    labels = read_labels(mask) if own else read_mask(mask, size)
    facts = mask_facts(labels, mpp)
    findings = mask_findings(names[0] or Path(mask).name, facts, mpp)
    found: CellTable | None = None
    if table is not None:
        found = read_cell_table(table, columns)
        matched = match_findings(names[1] or Path(table).name, found, cell_areas(labels)[0])
        for one in matched:
            if one.severity == Severity.ERROR:
                raise SlideError(FindingCode(one.code), one.sentence, one.hint, one.where)
        findings += matched
        if table_target is not None:
            found.rows.to_parquet(table_target, index=False)
    if not own:
        write_mask(mask_target, labels)
    return Cells(facts, found.facts() if found is not None else None, findings)


def bring_cells_isolated(
    mask: Path, size: tuple[int, int], mpp: float, mask_target: Path, table: Path | None = None, table_target: Path | None = None,
    columns: Columns | None = None, names: tuple[str, str] = ("", ""), seconds: float = 900, memory_mb: int = 8192,
    tick: Callable[[], None] | None = None,
) -> Cells:  # fmt: skip
    """`bring_cells` in a child process. SlideError with the child's code, or PARSER_CRASHED, PARSER_TIMEOUT, PARSER_OUT_OF_MEMORY."""
    asked = {
        "mask": str(mask.resolve()), "size": list(size), "mpp": mpp, "mask_target": str(mask_target.resolve()),
        "table": str(table.resolve()) if table else None, "table_target": str(table_target.resolve()) if table_target else None,
        "columns": asdict(columns or Columns()), "names": list(names),
    }  # fmt: skip
    result = run_isolated([MODULE, json.dumps(asked)], seconds, memory_mb, tick)
    if result.ended != "ok" or result.answer is None:
        finding = failure_finding(names[0] or mask.name, result, seconds, memory_mb)
        raise SlideError(FindingCode(finding.code), finding.sentence, finding.hint)
    if "error" in result.answer:
        error = result.answer["error"]
        raise SlideError(FindingCode(error["code"]), error["sentence"], error["hint"], error["where"])
    found = result.answer
    return Cells(found["mask"], found["table"], [Finding(**one) for one in found["findings"]])


def main(arguments: list[str] | None = None) -> int:
    """Print what came in, or {"error": ...}, as a line of JSON."""
    asked = json.loads((arguments if arguments is not None else sys.argv[1:])[0])
    columns = Columns(asked["columns"]["cell_id"], tuple(asked["columns"]["types"]), asked["columns"]["image"])
    try:
        found = bring_cells(
            asked["mask"], tuple(asked["size"]), asked["mpp"], asked["mask_target"], asked["table"], asked["table_target"], columns,
            (asked["names"][0], asked["names"][1]),
        )  # fmt: skip
        print(json.dumps({"mask": found.mask, "table": found.table, "findings": [one.to_dict() for one in found.findings]}))
    except SlideError as error:
        told = {"code": str(error.code), "sentence": error.sentence, "hint": error.hint, "where": error.where}
        print(json.dumps({"error": told}))
    except OSError as error:
        if error.errno not in FULL:
            raise
        sentence, hint = "The disk is full: the cells could not be written.", "Make room and try again; nothing was changed."
        print(json.dumps({"error": {"code": str(FindingCode.DISK_FULL), "sentence": sentence, "hint": hint, "where": ""}}))
    return 0


def types_of(rows: Any, ids: Any, column: str) -> Any:
    """The types of cells in the order of `ids` (of a mask), None where the table has no row. rows: of a kept table."""
    found = rows.set_index("cell_id")[column].reindex(np.asarray(ids)).astype(object)
    return found.where(found.notna(), None).to_numpy(object)


if __name__ == "__main__":
    sys.exit(main())
