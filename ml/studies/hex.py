"""The evidence for HEX: `python -m ml.studies.hex [her2st|worlds|ablation|write] [--quick]`; without a name everything, then the table.

Each cell of the tables is one file and is computed once: a stopped run goes on where it was. `write` makes docs/results/hex.md of what is
there. --quick: a few minutes' worth of everything, apart from the real cells, to see that it works; it writes no table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ml.studies import hex_her2st, hex_worlds
from ml.studies.cells import ROOT, Cells, data_folder, study_folder

PARTS = ("her2st", "worlds", "ablation", "write")
REPORT = ROOT / "docs" / "results" / "hex.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 where the real sections are not there."""
    parser = argparse.ArgumentParser(prog="python -m ml.studies.hex", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", nargs="?", choices=PARTS, help="one part; default: all")
    parser.add_argument("--quick", action="store_true", help="small, kept apart, no table")
    given = parser.parse_args(arguments)
    wanted = PARTS if given.part is None else (given.part,)
    cells = Cells(study_folder("hex", given.quick))
    return compute(cells, wanted, given.quick)


def compute(cells: Cells, wanted: Sequence[str], quick: bool) -> int:
    """Computes what is missing of the wanted parts, on one core; the table last."""
    import torch

    torch.set_num_threads(1)
    if "worlds" in wanted:
        hex_worlds.run(cells, hex_worlds.QUICK if quick else hex_worlds.Size())
    if "ablation" in wanted:
        hex_worlds.run_backbones(cells, hex_worlds.QUICK if quick else hex_worlds.Size())
    if "her2st" in wanted:
        try:
            data = data_folder()
        except FileNotFoundError as error:
            print(error, file=sys.stderr)
            return 2
        hex_her2st.run(cells, data, hex_her2st.QUICK if quick else hex_her2st.Size())
    if "write" in wanted and not quick:
        from ml.studies.hex_report import report

        REPORT.write_text(report(cells.all()))
        print(f"Written: {REPORT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
