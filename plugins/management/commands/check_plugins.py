"""Could every plugin run now, and how did it do lately?"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audit.commands import GovernedCommand
from audit.errors import NotPermitted
from audit.permissions import may_see_some, permitted, require
from plugins import registry
from plugins.api import HealthSerializer
from plugins.models import Plugin, PluginHealth
from plugins.services import check_all

UNWELL, WRONG_USE = 1, 2
COLOURS = {"healthy": "green", "degraded": "yellow", "failing": "red", "missing": "red"}
PLAIN = {"box": None, "pad_edge": False, "padding": (0, 2, 0, 0)}

EPILOG = """\
exit codes:
  0  every enabled plugin is healthy
  1  some enabled plugin is degraded, failing or missing
  2  wrong use: a name that is no plugin, or without the right to change plugins
  3  the database cannot be used

examples:
  manage.py check_plugins
  manage.py check_plugins ruff bandit
  manage.py check_plugins --format json | jq '.plugins[] | select(.health.status != "healthy")'
"""


class Command(GovernedCommand):
    help = (
        "Check all plugins, or the named ones: is the package installed, are its programs there, does it accept its "
        "settings, how did its last runs go. Prints a table on a terminal and plain lines when piped."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        kwargs |= {"epilog": EPILOG, "formatter_class": RawDescriptionHelpFormatter}
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("names", nargs="*", metavar="NAME", help="plugins to check (default: all)")
        parser.add_argument("--format", choices=["table", "json"], default="table", help="json: all that is known")

    def act(self, user: Any, **options: Any) -> None:
        plugins = self._choose(user, options["names"])
        check_all(plugins)
        if options["format"] == "json":
            self.stdout.write(json.dumps(make_document(plugins), indent=2))
        elif self.stdout.isatty():
            print_table(plugins, Console(file=self.stdout._out))
        else:
            for plugin in plugins:
                self.stdout.write(tell(plugin))
        for name, problem in registry.problems().items():
            self.tell(f"The installed analyzer {name} cannot be used: it {problem}.")
        if any(plugin.enabled and not is_well(plugin) for plugin in plugins):
            sys.exit(UNWELL)

    def _choose(self, user: Any, names: Sequence[str]) -> list[Plugin]:
        # Checking runs the analyzers and notes how they are, which is more than reading.
        try:
            if not may_see_some(user, "change", Plugin):
                require(user, "change", Plugin)
        except NotPermitted as error:
            raise CommandError(str(error), returncode=WRONG_USE) from error
        plugins = list(permitted(user, "change", Plugin.objects.order_by("name")))
        unknown = sorted(set(names) - {plugin.name for plugin in plugins})
        if unknown:
            known = ", ".join(plugin.name for plugin in plugins)
            raise CommandError(f"There is no plugin {', '.join(unknown)}. Known are: {known}.", returncode=WRONG_USE)
        return [plugin for plugin in plugins if not names or plugin.name in names]


def is_well(plugin: Plugin) -> bool:
    """Whether nothing is to be done about it."""
    return plugin.health.status == PluginHealth.Status.HEALTHY


def make_document(plugins: Sequence[Plugin]) -> dict[str, Any]:
    """All that is known of the plugins' health."""
    return {
        "healthy": all(is_well(plugin) for plugin in plugins if plugin.enabled),
        "plugins": [
            {
                "name": plugin.name,
                "version": plugin.analyzer.version if plugin.analyzer is not None else None,
                "enabled": plugin.enabled,
                "health": dict(HealthSerializer(plugin.health).data),
            }
            for plugin in plugins
        ],
        "problems": registry.problems(),
    }


def describe_runs(health: PluginHealth) -> tuple[str, str, str]:
    """When it ran last, the time that 19 of 20 runs did not exceed, and how many failed."""
    if not health.runs:
        return "never", "–", "–"
    return (
        f"{health.last_run_at:%Y-%m-%d %H:%M}",
        f"{health.p95_seconds:.2f} s",
        f"{health.failed_runs} of {health.runs}",
    )


def tell(plugin: Plugin) -> str:
    """A plugin in one line."""
    health, state = plugin.health, "enabled" if plugin.enabled else "disabled"
    last, p95, failed = describe_runs(health)
    runs = f" (last run {last}, p95 {p95}, failed {failed})" if health.runs else ""
    return f"{plugin.name}: {state}, {health.status}: {' '.join(health.detail.split())}{runs}"


def print_table(plugins: Sequence[Plugin], console: Console) -> None:
    """The plugins for people, and below what is wrong with those that are not well."""
    table = Table("Plugin", "Version", "", "Health", "Last run (UTC)", "p95", "Failed runs", **PLAIN)
    for plugin in plugins:
        health, on = plugin.health, plugin.enabled
        version = plugin.analyzer.version if plugin.analyzer is not None else "–"
        colour = COLOURS.get(health.status, "dim") if on else "dim"
        table.add_row(
            *(plugin.name, version, "on" if on else "off", f"[{colour}]{health.status}[/]"), *describe_runs(health)
        )
    console.print(table)
    for plugin in plugins:
        if not is_well(plugin):
            console.print(f"[bold]{plugin.name}[/]: {escape(plugin.health.detail)}", highlight=False)
