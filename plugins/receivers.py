"""What must hold between plugins? No plugin runs without what it requires; nothing is switched on or off silently."""

from __future__ import annotations

from typing import Any

from audit.changes import ChangeSet, register_check
from audit.errors import StateConflict
from plugins import obstacles
from plugins.models import Plugin


def connect() -> None:
    """Register the check with the kernel."""
    register_check(check_dependencies)


def check_dependencies(changes: ChangeSet) -> list[StateConflict]:
    """Judge the switches as they are at the end of the change set, so that dependents may be switched together."""
    switched = {
        change.entity_id: change
        for change in changes.changes
        if change.entity_type == Plugin.entity_type and _state(change.old) is not _state(change.new)
    }
    if not switched:
        return []
    enabled = set(Plugin.objects.filter(enabled=True).values_list("name", flat=True))
    problems: dict[str, str] = {}
    for name in sorted(enabled):
        # A contradiction that was there before, such as a package that was removed, does not block other changes.
        for other, sentence in obstacles.list_unmet(name, enabled):
            if name in switched or (other in switched and other not in enabled):
                problems[sentence] = "dependency"
        if name in switched:
            problems |= dict.fromkeys(obstacles.list_lacking(name), "executable")
    return [StateConflict(sentence, code=code) for sentence, code in problems.items()]


def _state(document: dict[str, Any] | None) -> bool:
    return document is not None and document["enabled"]
