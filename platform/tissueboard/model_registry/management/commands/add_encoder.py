"""manage.py add_encoder NAME [--weights FILE]: checks an encoder's weight file, keeps it in the store and brings it into use."""

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from tissueboard.errors import TissueboardError
from tissueboard.model_registry.encoders import register_encoder


class Command(BaseCommand):
    help = "Brings an encoder of the catalogue (or timm:NAME) into use, from its file in the weights folder or from --weights."

    def add_arguments(self, parser):
        parser.add_argument("name", help="Name in the catalogue, e.g. uni, or timm:NAME.")
        parser.add_argument("--weights", type=Path, help="The weight file; left out, the one in the encoder's weights folder.")

    def handle(self, *args, name, weights, **options):
        try:
            version = register_encoder(None, name, weights)
        except TissueboardError as error:
            raise CommandError(f"{error.code}: {error.sentence} {error.hint}".strip()) from error
        self.stdout.write(f"{version} is in use (version {version.pk}, {version.label}, licence {version.licence}).")
