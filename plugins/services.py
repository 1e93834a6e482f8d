"""How are plugins switched and watched over? Verbs that touch more than one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Protocol

from django.utils import timezone

from audit import encryption
from audit.changes import change_set
from plugins import obstacles, registry
from plugins.checkup import Look, hide_secrets, list_secrets, look, tell_lost
from plugins.models import Plugin, PluginHealth, PluginRun

Status = PluginHealth.Status
JUDGED_RUNS = 100
"""The last runs of a plugin that its figures tell of."""
KEPT_RUNS = 200
"""Runs of a plugin that are kept."""
MAX_DETAIL = 500
"""Characters of a failure that are kept."""
AT_ONCE = 4
"""Plugins whose health is looked at at the same time: most of it is waiting for processes to start."""
RUN_FIELDS = (
    *("status", "detail", "checked_at", "last_run_at", "last_run"),
    *("runs", "failed_runs", "p95_seconds", "failure"),
)


def toggle(*, name: str, enabled: bool) -> Plugin:
    """Switch a plugin on or off. Raises `Plugin.DoesNotExist`, or `StateConflict` naming what stands against it."""
    with change_set():
        plugin = Plugin.objects.get(name=name)
        plugin.enabled = enabled
        plugin.save()
    return plugin


def sync_plugins() -> list[str]:
    """Give every installed analyzer its row; return the names of the new ones.

    A row whose package is gone stays, with its settings: its rules do not run, and its health says so. A new plugin is
    switched on only when all that it requires is on, and never when it runs programs of others: these are opted into.
    """
    created = []
    with change_set(reason="installed analyzers"):
        known = set(Plugin.objects.values_list("name", flat=True))
        installed = registry.analyzers()
        for name in registry.dependency_order(installed):
            if name not in known:
                enabled = set(Plugin.objects.filter(enabled=True).values_list("name", flat=True))
                alone = not getattr(installed[name], "executables", ())
                Plugin(name=name, enabled=alone and not obstacles.list_unmet(name, enabled)).save()
                created.append(name)
    return created


def check_health(plugin: Plugin) -> PluginHealth:
    """Look whether the plugin could run now, and note how that went."""
    return check_all([plugin])[0]


def check_all(plugins: Sequence[Plugin]) -> list[PluginHealth]:
    """Look whether the plugins could run now, and note how that went; in their order.

    A last run that failed counts as well, unless the plugin was changed since.
    """
    enabled = set(Plugin.objects.filter(enabled=True).values_list("name", flat=True))
    with ThreadPoolExecutor(AT_ONCE) as threads:  # nothing in there asks the database
        looks = list(threads.map(lambda plugin: look(plugin.name, plugin.configuration, enabled), plugins))
    return [_note_look(plugin, seen) for plugin, seen in zip(plugins, looks, strict=True)]


def _note_look(plugin: Plugin, seen: Look) -> PluginHealth:
    status, detail = seen.status, seen.detail
    run = plugin.runs.first()
    if run is not None and run.failures and run.ran_at >= plugin.updated_at and status == Status.HEALTHY:
        status, detail = _judge(run), f"{detail} {_tell(run)}"
    programs = [{**asdict(program), "problem": program.problem} for program in seen.programs]
    found = {"status": status, "detail": detail, "checked_at": timezone.now(), "executables": programs}
    plugin.health, _ = PluginHealth.objects.update_or_create(plugin=plugin, defaults=found)
    return plugin.health


class Tally(Protocol):
    """How one plugin did in one review. `files` are those that it was asked about; 0 if it could not be asked."""

    seconds: float
    files: int
    findings: int
    failures: int
    detail: str
    """The first failure; empty if there was none."""


def note_runs(runs: Mapping[str, Tally]) -> None:
    """Keep how the plugins did in a review, by name, and judge their health by it. Names without a row are ignored."""
    plugins = list(Plugin.objects.filter(name__in=list(runs)).select_related("health"))
    if not plugins:
        return
    PluginRun.objects.bulk_create([_make_run(plugin, runs[plugin.name]) for plugin in plugins])
    kept: dict[int, list[PluginRun]] = {plugin.pk: [] for plugin in plugins}
    for run in PluginRun.objects.filter(plugin__in=plugins).order_by("-id"):
        kept[run.plugin_id].append(run)
    surplus = [run.pk for mine in kept.values() for run in mine[KEPT_RUNS:]]
    if surplus:
        PluginRun.objects.filter(pk__in=surplus).delete()
    PluginHealth.objects.bulk_create(
        [_sum_up(plugin, kept[plugin.pk][:JUDGED_RUNS]) for plugin in plugins],
        update_conflicts=True,
        unique_fields=["plugin"],
        update_fields=RUN_FIELDS,
    )


def _make_run(plugin: Plugin, tally: Tally) -> PluginRun:
    detail = hide_secrets(tally.detail, plugin.name, plugin.configuration)[:MAX_DETAIL]
    return PluginRun(
        plugin=plugin,
        seconds=tally.seconds,
        files=tally.files,
        findings=tally.findings,
        failures=tally.failures,
        detail=detail,
    )


def _sum_up(plugin: Plugin, runs: Sequence[PluginRun]) -> PluginHealth:
    """The health of a plugin after `runs`, newest first."""
    last, failed = runs[0], [run for run in runs if run.failures]
    before = getattr(plugin, "health", None)  # asked now: the new one takes its place
    health = PluginHealth(
        plugin=plugin,
        status=_judge(last),
        detail=_tell(last),
        checked_at=last.ran_at,
        last_run_at=last.ran_at,
        last_run={name: getattr(last, name) for name in ("seconds", "files", "findings", "failures")},
        runs=len(runs),
        failed_runs=len(failed),
        p95_seconds=find_percentile([run.seconds for run in runs], 95),
        failure=failed[0].detail if failed else "",
    )
    if before is not None and before.status == Status.MISSING and last.failures:
        health.status, health.detail = before.status, before.detail  # it says what to install
    return health


def find_percentile(numbers: Sequence[float], percent: int) -> float:
    """The least of `numbers` that so many percent of them do not exceed (nearest rank)."""
    return sorted(numbers)[ceil(len(numbers) * percent / 100) - 1]


def _judge(run: PluginRun) -> Status:
    if not run.failures:
        return Status.HEALTHY
    # A file may fail once for each rule, so the numbers alone do not tell that nothing went well.
    return Status.FAILING if run.failures >= run.files and not run.findings else Status.DEGRADED


def _tell(run: PluginRun) -> str:
    files = f"{run.files} file{'' if run.files == 1 else 's'}"
    if not run.failures:
        return f"The last run looked at {files} in {run.seconds:.2f} s without a failure."
    return f"In the last run, over {files}, {run.failures} failed: {run.detail}"


@dataclass(frozen=True)
class Settings:
    """The settings of the enabled plugins by name, secrets in clear: never store or show them."""

    configurations: Mapping[str, dict[str, Any]]
    lost: Mapping[str, str]
    """Plugins with secrets that cannot be decrypted, and what to do about it."""
    secrets: Sequence[str]
    """The texts of all that is secret in them."""


def reveal_settings() -> Settings:
    """What the analyzers of the enabled plugins need to work."""
    configurations, told, secrets = {}, {}, []
    for plugin in Plugin.objects.filter(enabled=True):
        configurations[plugin.name], lost = encryption.reveal_readable(plugin.configuration)
        if lost:
            told[plugin.name] = " ".join(tell_lost(lost))
        secrets += list_secrets(plugin.name, plugin.configuration)
    return Settings(configurations, told, secrets)
