"""Large files of regions are read in a child process with limits, so that no file of a stranger takes a server down.

Usage of the child: python -m ml.slides.geojson_child FILE TARGET WIDTH HEIGHT X Y.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from ml.slides.findings import Finding
from ml.slides.geojson import read_geojson, write_geojson
from ml.slides.isolate import failure_finding, run_isolated
from ml.slides.regions import Region

SMALL = 256 << 10  # bytes; no text of this size takes much to read
SECONDS, MEMORY_MB = 60.0, 2048


def read_geojson_safely(
    content: bytes, size: tuple[int, int], origin: tuple[float, float] = (0.0, 0.0), file: str = "regions.geojson"
) -> tuple[list[Region], list[Finding]]:
    """`read_geojson`, in a child process where the content is packed or large; its failure is one more finding."""
    if len(content) <= SMALL and content[:2] not in (b"\x1f\x8b", b"PK"):
        return read_geojson(content, size, origin, file)
    with tempfile.TemporaryDirectory(prefix="tissueboard-regions-") as folder:
        source, target = Path(folder) / "in", Path(folder) / "out"
        source.write_bytes(content)
        numbers = [*size, *origin]
        result = run_isolated(["ml.slides.geojson_child", str(source), str(target), *map(str, numbers)], SECONDS, MEMORY_MB)
        if result.ended != "ok" or not target.is_file():
            return [], [failure_finding(file, result, SECONDS, MEMORY_MB)]
        answer = json.loads(target.read_bytes())
    # What the child wrote is clean: reading it again finds nothing new.
    regions, _ = read_geojson(json.dumps(answer["regions"]).encode())
    return regions, [Finding(**{**one, "file": file}) for one in answer["findings"]]


def main(arguments: list[str]) -> dict[str, Any]:
    """Reads one file and writes {regions, findings} as JSON; the number of both is the answer."""
    source, target = Path(arguments[0]), Path(arguments[1])
    width, height = int(arguments[2]), int(arguments[3])
    regions, findings = read_geojson(source.read_bytes(), (width, height), (float(arguments[4]), float(arguments[5])))
    found = {"regions": json.loads(write_geojson(regions)), "findings": [f.to_dict() for f in findings]}
    target.write_text(json.dumps(found))
    return {"regions": len(regions), "findings": len(findings)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
