"""The evidence for MICA: `python -m ml.studies.mica [worlds|write] [--quick]`; without a name both.

Each cell is one file and is computed once: a stopped run goes on where it was. `write` makes docs/results/mica.md of what is there.
--quick: very small, kept apart from the real cells, to see that it works; it writes no table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ml.studies import mica_worlds
from ml.studies.cells import ROOT, Cells, study_folder

PARTS = ("worlds", "write")
REPORT = ROOT / "docs" / "results" / "mica.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m ml.studies.mica", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", nargs="?", choices=PARTS, help="one part; default: both")
    parser.add_argument("--quick", action="store_true", help="small, kept apart, no table")
    given = parser.parse_args(arguments)
    compute(Cells(study_folder("mica", given.quick)), PARTS if given.part is None else (given.part,), given.quick)
    return 0


def compute(cells: Cells, wanted: Sequence[str], quick: bool) -> None:
    """Computes what is missing, on one core, then the table."""
    import torch

    torch.set_num_threads(1)
    if "worlds" in wanted:
        mica_worlds.run(cells, mica_worlds.QUICK if quick else mica_worlds.Size())
    if "write" in wanted and not quick:
        from ml.studies.mica_report import report

        REPORT.write_text(report(cells.all()))
        print(f"Written: {REPORT.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
