"""Which changes imply others here? A created rule gets the persona of its type, by whichever door it came."""

from __future__ import annotations

from audit.changes import ChangeSet, register_completion
from personas.services import assign_defaults
from rules.models import AnalysisRule


def connect() -> None:
    """Register the completion with the kernel."""
    register_completion(assign_default_personas)


def assign_default_personas(changes: ChangeSet) -> None:
    """At the end of the change set, so that a rule created with personas of its own keeps just those."""
    created = [
        change.instance
        for change in changes.changes
        if change.action == "created" and isinstance(change.instance, AnalysisRule) and change.instance.pk is not None
    ]
    if created:
        assign_defaults(created)
