"""Brings released weights of VirTues into use, with the protein embeddings of their markers."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tissueboard.errors import TissueboardError
from tissueboard.predictions.virtues_release import LICENCES, register_released


class Command(BaseCommand):
    help = "Registers a model.safetensors of the released VirTues (or its folder) with a folder of marker embeddings as a version."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("name", help="name of the version")
        parser.add_argument("weights", type=Path, help="model.safetensors, or its folder with config.json")
        parser.add_argument("--bank", type=Path, required=True, help="folder with one <UniProt>.pt (or safetensors) per marker")
        parser.add_argument("--release", default="", help=f"which release it is: {', '.join(LICENCES)} (default: the folder's name)")
        parser.add_argument("--licence", default="", help="of the weights (default: by release)")
        parser.add_argument("--pitch-um", type=float, default=1.0, help="um per px that it was trained at (default: 1)")

    def handle(self, **options: Any) -> None:
        names = ("release", "licence", "pitch_um")
        try:
            version = register_released(
                None, options["name"], options["weights"], options["bank"], **{name: options[name] for name in names}
            )
        except TissueboardError as error:
            raise CommandError(f"{error.sentence} {error.hint}".strip()) from error
        self.stdout.write(f"{version} is registered (id {version.pk}, {version.licence}, {len(version.panel)} marker embeddings).")
        self.stdout.write("Take it into use on a cohort before its images are seen: training “virtues_adopt”.")
