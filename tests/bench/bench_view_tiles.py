"""View tiles over HTTP: ours beside a bare Django reply and beside a view on openslide.deepzoom, behind the same middleware.

Run: python tests/bench/bench_view_tiles.py
Prints medians in one process (the WSGI application called directly) and through gunicorn, the ratios, and the largest difference of
a pixel between our tiles and OpenSlide's region. The slide is the real one of the data folder (TISSUEBOARD_DATA), else a drawn one.
"""

# ruff: noqa: E402 - the repository must be on the path first
import http.client
import io
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT, ROOT / "platform", Path(__file__).resolve().parent):
    sys.path.insert(0, str(folder))

import numpy as np
from PIL import Image
from table import table_row

ROUNDS = 12
SLIDE = "wsi/cmu-1-small-region.svs"
GUNICORN = ("--worker-class", "gthread", "--workers", "1", "--threads", "4", "--log-level", "error")


def original(home: Path) -> Path:
    real = Path(os.environ.get("TISSUEBOARD_DATA", ROOT.parent / "shared" / "data")) / SLIDE
    if real.is_file():
        return real
    import tifffile

    rng = np.random.default_rng(0)
    picture = np.clip(rng.normal((205, 150, 190), 25, (3000, 2400, 3)), 0, 255).astype(np.uint8)
    common = {"tile": (240, 240), "compression": "jpeg", "photometric": "rgb", "metadata": None}
    tifffile.imwrite(home / "drawn.tif", picture, resolution=(2e4, 2e4), resolutionunit="CENTIMETER", **common)
    return home / "drawn.tif"


@contextmanager
def site(home: Path):
    """A database with one ready slide; gives (address of its tiles, path of its working slide)."""
    os.environ |= {"TISSUEBOARD_HOME": str(home), "LOG_LEVEL": "ERROR"}
    os.environ.pop("DATABASE_URL", None)
    os.environ["ALLOWED_HOSTS"] = "127.0.0.1"
    (home / "staticfiles").mkdir()
    from tissueboard.embedded import postgres

    postgres.start(home)
    try:
        import view_tiles_site  # noqa: F401 starts Django
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        yield _slide(home)
    finally:
        from django.db import connections

        connections.close_all()
        postgres.stop(home)


def _slide(home: Path) -> tuple[str, Path]:
    from ml.slides.scrub import make_working
    from tissueboard.accounts.models import User
    from tissueboard.cohorts.models import Cohort, Membership, Patient, Sample
    from tissueboard.slides.models import Slide
    from tissueboard.slides.services import tile_token
    from tissueboard.store import store

    user = User.objects.create_user("bench")
    cohort = Cohort.objects.create(name="bench")
    Membership.objects.create(cohort=cohort, user=user, role="viewer")
    sample = Sample.objects.create(patient=Patient.objects.create(cohort=cohort, code="P1"), code="01A")
    slide = Slide.objects.create(sample=sample, name="S1", sealed_sha256="0" * 64, working_key="slides/1/working.tif")
    path = store.path(slide.working_key)
    facts = make_working(original(home), path)
    slide.working_sha256, slide.mpp, (slide.width, slide.height), slide.state = facts.sha256, facts.mpp, facts.size, "ready"
    slide.save()
    os.environ["BENCH_SLIDE"] = str(path)
    return f"/slides/{slide.pk}/{tile_token(user, slide)}/slide_files", path


def addresses(tiles: str, path: Path) -> list[tuple[str, str]]:
    """(ours, the generator's) for tiles all over the three finest levels."""
    import openslide
    from openslide.deepzoom import DeepZoomGenerator

    from ml.slides.view_tiles import level_sizes, stored_tiles

    slide = stored_tiles(path)
    reference = DeepZoomGenerator(openslide.OpenSlide(str(path)), 254, 1, limit_bounds=True)
    pairs = []
    for level in range(slide.level_count - 3, slide.level_count):
        width, height = level_sizes(slide.size)[level]
        cols, rows = -(-width // slide.tile_side), -(-height // slide.tile_side)
        for row in range(rows):
            for col in range(cols):
                theirs = min(col, reference.level_tiles[level][0] - 1), min(row, reference.level_tiles[level][1] - 1)
                pairs.append((f"{tiles}/{level}/{col}_{row}.jpeg", f"/generator/{level}/{theirs[0]}_{theirs[1]}.jpeg"))
    return pairs


def direct(path: str) -> bytes:
    import view_tiles_site

    environ = {
        **{"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80"},
        **{"SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "127.0.0.1", "HTTP_ACCEPT": "image/*", "REMOTE_ADDR": "127.0.0.1"},
        **{"wsgi.input": io.BytesIO(), "wsgi.url_scheme": "http", "wsgi.errors": sys.stderr},
    }
    status = []
    response = view_tiles_site.application(environ, lambda line, headers: status.append(line))
    body = b"".join(response)
    response.close()
    assert status[0].startswith("200"), (path, status)
    return body


def measure(title: str, get, pairs) -> tuple[float, float, float]:
    """Medians of all three, asked in turn; the first round warms every cache up and is not counted."""
    times: dict[str, list[float]] = {"bare": [], "ours": [], "generator": []}
    for round_number in range(ROUNDS + 1):
        for ours, theirs in pairs:
            for name, address in (("bare", "/bare/"), ("ours", ours), ("generator", theirs)):
                start = time.perf_counter()
                get(address)
                if round_number:
                    times[name].append(time.perf_counter() - start)
    bare, ours, generator = (statistics.median(times[name]) * 1e3 for name in times)
    print(
        f"{title}: bare reply {bare:.3f} ms p50, our tile {ours:.3f} ms p50 = {ours / bare:.2f}x the bare reply (aim <= 1.7x); "
        f"openslide.deepzoom view {generator:.2f} ms p50 = {generator / ours:.1f}x ours; n = {len(times['ours'])}"
    )
    return bare, ours, generator


@contextmanager
def gunicorn():
    """A connection that is kept open to a gunicorn with the product's kind of workers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "platform"), str(Path(__file__).resolve().parent)])
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "view_tiles_site:application",
        "--bind",
        f"127.0.0.1:{port}",
        "--keep-alive",
        "60",
        *GUNICORN,
    ]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        connection = http.client.HTTPConnection("127.0.0.1", port)

        def get(path: str) -> bytes:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, (path, answer.status)
            return body

        yield get
        connection.close()
    finally:
        process.terminate()
        process.wait()


def same_pixels(pairs, path: Path) -> int:
    import openslide

    from ml.slides.view_tiles import stored_tiles

    side, levels = stored_tiles(path).tile_side, stored_tiles(path).level_count
    slide = openslide.OpenSlide(str(path))
    whole = {n: np.asarray(slide.read_region((0, 0), n, slide.level_dimensions[n]).convert("RGB"), int) for n in range(3)}
    largest = 0
    for ours, _ in pairs:
        level, place = ours.split("/")[-2:]
        col, row = (int(part) for part in place.removesuffix(".jpeg").split("_"))
        shown = np.asarray(Image.open(io.BytesIO(direct(ours))).convert("RGB"), int)
        expected = whole[levels - 1 - int(level)][row * side : (row + 1) * side, col * side : (col + 1) * side]
        largest = max(largest, int(np.abs(shown[: expected.shape[0], : expected.shape[1]] - expected).max()))
    print(f"equality: {len(pairs)} tiles of the three finest levels beside OpenSlide's regions, largest difference {largest} grey levels")
    if largest:
        raise SystemExit("The tiles do not show OpenSlide's pixels.")
    return largest


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-view-") as folder, site(Path(folder)) as (tiles, path):
        pairs = addresses(tiles, path)
        alone = measure("one process", direct, pairs)
        with gunicorn() as get:
            served = measure("gunicorn", get, pairs)
        differ = f"pixel difference {same_pixels(pairs, path)}"
        for name, (bare, ours, generator) in (("one process", alone), ("gunicorn", served)):
            table_row(
                f"view tile over HTTP, {name}", "bare reply", f"{bare:.2f} ms", f"{ours:.2f} ms", f"{ours / bare:.2f}x", "<= 1.7x", differ
            )
            table_row(
                f"the same, {name}",
                "OpenSlide DeepZoom view",
                f"{generator:.2f} ms",
                f"{ours:.2f} ms",
                f"{generator / ours:.1f}x",
                "-",
                differ,
            )


if __name__ == "__main__":
    main()
