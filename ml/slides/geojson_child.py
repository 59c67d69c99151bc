"""Large files of regions are read in a child process with limits, so that no file of a stranger takes a server down.

Usage of the child: python -m ml.slides.geojson_child FILE TARGET FINDINGS WIDTH HEIGHT X Y.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from ml.slides.findings import Finding
from ml.slides.geojson import read_geojson, read_own, write_geojson
from ml.slides.isolate import failure_finding, run_isolated
from ml.slides.regions import Region

SMALL = 16 << 10  # bytes; no text of this size takes much to read, whatever its outlines have to be mended
SECONDS, MEMORY_MB = 60.0, 2048


def read_geojson_safely(
    content: bytes, size: tuple[int, int], origin: tuple[float, float] = (0.0, 0.0), file: str = "regions.geojson"
) -> tuple[bytes, list[Region], list[Finding]]:
    """`read_geojson`, in a child process where the content is packed or large; its failure is one more finding.

    Gives the regions also as our own GeoJSON (px0 of the working slide), for `read_own`.
    """
    if len(content) <= SMALL and content[:2] not in (b"\x1f\x8b", b"PK"):
        regions, findings = read_geojson(content, size, origin, file)
        return write_geojson(regions), regions, findings
    with tempfile.TemporaryDirectory(prefix="tissueboard-regions-") as folder:
        source, target, told = (Path(folder) / name for name in ("in", "out", "findings"))
        source.write_bytes(content)
        numbers = [*size, *origin]
        result = run_isolated(["ml.slides.geojson_child", *map(str, (source, target, told, *numbers))], SECONDS, MEMORY_MB)
        if result.ended != "ok" or not target.is_file():
            return write_geojson([]), [], [failure_finding(file, result, SECONDS, MEMORY_MB)]
        own, findings = target.read_bytes(), [Finding(**{**one, "file": file}) for one in json.loads(told.read_bytes())]
    return own, read_own(own), findings


def main(arguments: list[str]) -> dict[str, Any]:
    """Reads one file and writes its regions and findings to two others; the number of both is the answer."""
    source, target, told = (Path(name) for name in arguments[:3])
    width, height = int(arguments[3]), int(arguments[4])
    regions, findings = read_geojson(source.read_bytes(), (width, height), (float(arguments[5]), float(arguments[6])))
    told.write_text(json.dumps([f.to_dict() for f in findings]))
    target.write_bytes(write_geojson(regions))
    return {"regions": len(regions), "findings": len(findings)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
