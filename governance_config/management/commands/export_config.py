"""Write the configuration as a document: rules, plugins, personas and assignments by their names."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from audit.commands import GovernedCommand
from audit.document_schema import write_schema
from audit.exchange import dump, export_document
from audit.permissions import require_holding
from overrides.api import EXPORT_CONFIGURATION


class Command(GovernedCommand):
    help = (
        "Write the configuration (plugins, rules, personas, assignments, governance rules) as one YAML or JSON "
        "document, to standard output or a file. Equal configurations give equal documents: keep them in version "
        "control and compare them. --schema writes the JSON Schema of documents instead; beside a document, "
        "editors find it. "
        "Example: manage.py export_config --output configuration.yaml. "
        "Exit codes: 0 done, 1 refused, 2 wrong use, 3 no database."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--output", metavar="FILE", type=Path, help="write to this file instead of standard output")
        parser.add_argument("--format", choices=["yaml", "json"], default="yaml", help="default: yaml")
        parser.add_argument("--schema", action="store_true", help="the JSON Schema of documents, not the configuration")

    def act(self, user: Any, **options: Any) -> None:
        if options["schema"]:
            text, told = dump(write_schema(), "json"), "the JSON Schema of documents"
        else:
            require_holding(user, EXPORT_CONFIGURATION)
            document = export_document(user)
            text, told = dump(document, options["format"]), count_entries(document)
        if options["output"] is None:
            self.stdout.write(text, ending="")
            return
        try:
            options["output"].write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"Cannot write {options['output']}: {error.strerror}.", returncode=2) from error
        self.tell(f"Wrote {options['output']}: {told}.")


def count_entries(document: dict[str, Any]) -> str:
    """How much there is of what, in words."""
    counts = ", ".join(f"{len(entries)} {key}" for key, entries in document.items() if isinstance(entries, list))
    return counts.replace("_", " ")
