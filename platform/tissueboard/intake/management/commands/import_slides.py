"""manage.py import_slides PATH... --cohort NAME: brings slide files, or folders of them, into a cohort, one after the other."""

import json
import logging
from argparse import ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ml.slides.sniff import companion_of
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError
from tissueboard.intake.errors import IntakeCode, error
from tissueboard.intake.people import cohort_for_command, user_for_command
from tissueboard.intake.services import SlideImportResult, import_slide

log = logging.getLogger(__name__)


def positive(text: str) -> float:
    """um per pixel from the command line."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is no positive number of um per pixel")
    return value


class Command(BaseCommand):
    help = "Checks and imports slides. One bad file never stops the rest; every file has a line in the report."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="Slide files, or folders that are searched through.")
        parser.add_argument("--cohort", required=True, help="Name of the cohort.")
        parser.add_argument("--create-cohort", action="store_true", help="Make the cohort if there is none.")
        parser.add_argument("--user", help="Name of the person who imports; without it the house itself does.")
        parser.add_argument("--mpp", type=positive, help="um per pixel, for files that do not state it.")
        parser.add_argument("--trust-mpp", action="store_true", help="--mpp also wins over files that state another value.")
        parser.add_argument("--dry-run", action="store_true", help="Only check; nothing is written.")
        parser.add_argument("--report", type=Path, metavar="FILE.json", help="Where to write the report: a list with one entry per file.")

    def handle(self, *args: Any, paths: list[Path], cohort: str, dry_run: bool, report: Path | None, **options: Any) -> None:
        files = list(found_files(paths))
        given = {"mpp": options["mpp"], "trust_mpp": options["trust_mpp"], "dry_run": dry_run}
        if given["trust_mpp"] and given["mpp"] is None:
            raise CommandError("--trust-mpp needs --mpp.")
        person = user_for_command(options["user"])
        with cohort_for_command(person, cohort, options["create_cohort"], dry_run, self.stdout.write) as target:
            results = [self._one(person, target, path, name, given) for path, name in files]
        if report is not None:
            report.write_text(json.dumps([result.to_dict() for result in results], indent=1, ensure_ascii=False))
        counts = {state: sum(r.state == state for r in results) for state in ("ready", "needs attention", "rejected")}
        self.stdout.write(", ".join(f"{n} {state}" for state, n in counts.items()) + (" (dry run, nothing was written)" if dry_run else ""))

    def _one(self, user: Any, cohort: Cohort, path: Path, name: str, given: dict[str, Any]) -> SlideImportResult:
        """One file, whatever is in it; an unexpected failure is a finding of this file and a traceback in the log."""
        try:
            result = self._import(user, cohort, path, name, given)
        except TissueboardError as refusal:
            result = _failed(name, refusal.code, refusal.sentence, refusal.hint)
        except Exception:
            log.exception("import of a slide failed")
            result = _failed(
                name, IntakeCode.IMPORT_FAILED, "The import stopped with an unexpected error.", "The log says more; try again."
            )
        self.stdout.write(f"{result.state:16} {name}")
        for finding in result.findings:
            where = f" [{finding.where}]" if finding.where else ""
            self.stdout.write(f"    {finding.severity}: {finding.code}{where} {finding.sentence} {finding.hint}")
        return result

    def _import(self, user: Any, cohort: Cohort, path: Path, name: str, given: dict[str, Any]) -> SlideImportResult:
        main = companion_of(path)
        if main is not None:
            sentence = f"This is a part of the slide {main.name}, not a slide."
            return _failed(name, "COMPANION_FILE", sentence, f"Nothing to do: it is taken in together with {main.name}.")
        result = import_slide(user, cohort, path, **given)
        return SlideImportResult(name, result.state, result.findings, result.slide, result.import_)


def found_files(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    """(path, name in the report) of every file; a folder's files in order, named relative to it."""
    for path in paths:
        if path.is_dir():
            for file in sorted(p for p in path.rglob("*") if p.is_file()):
                yield file, file.relative_to(path).as_posix()
        else:
            yield path, path.name


def _failed(name: str, code: str, sentence: str, hint: str) -> SlideImportResult:
    return SlideImportResult(name, "rejected", [error(code, sentence, hint, file=Path(name).name)])
