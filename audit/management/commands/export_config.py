"""Write the configuration as a document: rules, plugins, personas and assignments by their names."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from audit.commands import GovernedCommand
from audit.exchange import dump, export_document


class Command(GovernedCommand):
    help = (
        "Write the configuration (plugins, rules, personas, assignments) as one YAML or JSON document, to standard "
        "output or a file. Equal configurations give equal documents: keep them in version control and compare them. "
        "Example: manage.py export_config --output configuration.yaml"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--output", metavar="FILE", type=Path, help="write to this file instead of standard output")
        parser.add_argument("--format", choices=["yaml", "json"], default="yaml", help="default: yaml")

    def act(self, user: Any, **options: Any) -> None:
        document = export_document(user)
        text = dump(document, options["format"])
        if options["output"] is None:
            self.stdout.write(text, ending="")
            return
        try:
            options["output"].write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"Cannot write {options['output']}: {error.strerror}.", returncode=2) from error
        counts = ", ".join(f"{len(entries)} {key}" for key, entries in document.items() if isinstance(entries, list))
        self.tell(f"Wrote {options['output']}: {counts.replace('_', ' ')}.")
