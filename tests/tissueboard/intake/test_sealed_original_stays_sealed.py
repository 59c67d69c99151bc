"""No route reads a sealed original: outside intake nothing knows where it lies, and nothing heavy is loaded to say who may."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_only_intake_knows_the_key_of_the_sealed_original():
    sources = [p for folder in ("platform", "frontend") for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".html", ".js")]
    sources = [p for p in sources if "node_modules" not in p.parts]
    knowing = {p.relative_to(ROOT).as_posix() for p in sources if "sealed_key" in p.read_text()}
    tables = {f"platform/tissueboard/{app}/models.py" for app in ("slides", "assays")}
    assert {p for p in knowing if not p.startswith("platform/tissueboard/intake/")} == tables


def test_starting_the_platform_loads_no_slide_reader():
    program = (
        "import django, sys; django.setup();"
        "import tissueboard.intake.services, tissueboard.intake.handlers, tissueboard.slides.urls;"
        "print(sorted({'torch', 'openslide', 'tifffile', 'pandas', 'openpyxl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.strip() == "[]"


def environment() -> dict[str, str]:
    """That of the product: without the job kinds that only tests know."""
    paths = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
    kept = {name: value for name, value in os.environ.items() if name != "JOBS_EXTRA_HANDLERS"}
    return {**kept, "PYTHONPATH": paths, "DJANGO_SETTINGS_MODULE": "tissueboard.settings"}
