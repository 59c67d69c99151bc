"""manage.py import_labels COHORT TABLE.csv --slide NAME: measured proteins per tile of one slide, for training HEX."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ml.slides.findings import Finding
from tissueboard.accounts.models import User
from tissueboard.assays.errors import LabelsRefused
from tissueboard.assays.label_uploads import marker_names
from tissueboard.assays.labels import KINDS, TILE_UM, slide_named
from tissueboard.assays.models import MultiplexImage
from tissueboard.assays.services import Asked, add_labels, request_labels
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError
from tissueboard.jobs import execution
from tissueboard.jobs.models import State
from tissueboard.slides.models import Slide

GRID = "grid"


class Command(BaseCommand):
    help = "Keeps the measured labels of a slide: a label table as HEX releases it, or the tile means of a registered multiplex image."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("cohort", help="Name of the cohort.")
        parser.add_argument("table", nargs="?", type=Path, metavar="TABLE.csv", help="slide, index, x, y, then a column per marker.")
        parser.add_argument("--slide", required=True, metavar="NAME", help="Name of the slide in the cohort.")
        parser.add_argument("--kind", default="codex", choices=[value for value, _ in KINDS], help="How it was measured.")
        parser.add_argument("--markers", metavar="A,B,C|FILE", help="Names of numbered channels in order, or a file with one a line.")
        parser.add_argument("--panel", default="", help="Name of the panel; found or made without it.")
        parser.add_argument("--tile-um", type=float, help=f"Side of a tile in um; without it the coordinate file's, else {TILE_UM:g}.")
        parser.add_argument("--table-slide", default="", metavar="ID", help="What the table calls this slide, where it holds several.")
        parser.add_argument("--frame", choices=["whole", "scanned"], default="whole", help="Where pixels count from (whole: OpenSlide).")
        parser.add_argument("--replace", action="store_true", help="Other labels of this kind make room.")
        parser.add_argument("--from-multiplex", type=int, metavar="IMAGE_ID", help="Measure on an imported image that lies on the slide.")
        parser.add_argument("--coords", default=GRID, metavar="FILE.h5|grid", help="Tiles of CLAM or TRIDENT, or all on the tissue.")
        parser.add_argument("--origin", default="0,0", metavar="X,Y", help="Slide pixel where the image's first pixel lies.")
        parser.add_argument("--user", help="Name of the person who imports; without it the house itself does.")
        parser.add_argument("--dry-run", action="store_true", help="Only check; nothing is written.")

    def handle(self, *args: Any, cohort: str, table: Path | None, slide: str, from_multiplex: int | None, **options: Any) -> None:
        target = Cohort.objects.filter(name=cohort).first()
        if target is None:
            raise CommandError(f"There is no cohort {cohort}.")
        if (table is None) == (from_multiplex is None):
            raise CommandError("Give a table or --from-multiplex, one of the two.")
        person = self._person(options["user"])
        try:
            found = slide_named(person, target, slide)
            if table is not None:
                self._table(person, found, table, self._asked(options), options["dry_run"])
            else:
                self._image(person, found, from_multiplex or 0, options)
        except LabelsRefused as refusal:
            self._say(refusal.findings)
            raise CommandError(f"{refusal.code}: nothing was kept.") from None
        except TissueboardError as error:
            raise CommandError(f"{error.code}: {error.sentence} {error.hint}") from None

    def _table(self, person: User | None, slide: Slide, table: Path, asked: Asked, dry_run: bool) -> None:
        result = add_labels(person, slide, table, asked, dry_run=dry_run)
        self._say(result.findings)
        markers = f"{len(result.markers)} marker{'s' * (len(result.markers) != 1)}"
        self.stdout.write(f"{slide.name}: {result.n_tiles} tiles, {markers}, values like {result.scale}; {result.state}.")
        if dry_run:
            self.stdout.write("Dry run, nothing was written.")

    def _image(self, person: User | None, slide: Slide, image_id: int, options: dict[str, Any]) -> None:
        """Asks for the job and does it here, so that it also ends where no worker runs; a worker that was faster is welcome."""
        image = MultiplexImage.objects.filter(pk=image_id, sample__patient__cohort=slide.sample.patient.cohort).first()
        if image is None:
            raise CommandError(f"There is no multiplex image {image_id} in the cohort.")
        if options["markers"]:
            raise CommandError("The image says its channels' names; --markers belongs to a table.")
        asked, xy = self._asked(options), None
        if options["coords"] != GRID:
            xy, tile_um = self._coords(Path(options["coords"]), slide)
            asked = self._asked({**options, "tile_um": options["tile_um"] or tile_um})
        if options["dry_run"]:
            raise CommandError("Measuring an image is the work itself: there is no dry run of it.")
        job = request_labels(person, slide, image, asked, xy=xy, origin=self._origin(options["origin"]))
        execution.execute(job.pk, job.attempt, worker="import_labels")
        job.refresh_from_db()
        if job.state not in (State.SUCCEEDED, State.RUNNING, State.SAVING):
            raise CommandError(f"job {job.pk}: {job.error_code} {job.error_sentence} {job.error_hint}")
        self.stdout.write(f"{slide.name}: labels from {image.name}, job {job.pk} {job.state}.")

    def _coords(self, path: Path, slide: Slide) -> tuple[Any, float | None]:
        """Corners, and the side of a tile in um on this slide where the file says it in pixels."""
        from ml.hex.errors import HexDataError
        from ml.hex.tile_means import read_coords

        try:
            coords = read_coords(path)
        except HexDataError as error:
            raise CommandError(f"{error.code.upper()}: {error.sentence} {error.hint}") from None
        return coords.xy, None if coords.tile_px0 is None else coords.tile_px0 * float(slide.mpp or 0)

    def _asked(self, options: dict[str, Any]) -> Asked:
        given = options["markers"] or ""
        if given and Path(given).is_file():
            given = Path(given).read_text(encoding="utf-8-sig")
        return Asked(
            kind=options["kind"],
            tile_um=options["tile_um"] or TILE_UM,
            markers=marker_names(given),
            panel=options["panel"],
            table_slide=options["table_slide"],
            whole_file=options["frame"] == "whole",
            replace=options["replace"],
        )

    def _origin(self, text: str) -> tuple[int, int]:
        try:
            x, y = (int(part) for part in text.split(","))
        except ValueError:
            raise CommandError(f"--origin is x,y in whole pixels of the slide, not {text}.") from None
        return x, y

    def _person(self, name: str | None) -> User | None:
        person = User.objects.filter(username=name, is_active=True).first() if name else None
        if name and person is None:
            raise CommandError(f"There is no active user {name}.")
        return person

    def _say(self, findings: list[Finding]) -> None:
        for one in findings:
            where = f" [{one.where}]" if one.where else ""
            self.stdout.write(f"{one.severity}: {one.code}{where} {one.sentence} {one.hint}")
