"""What does a storey know of an object that its document does not say? Facts, for conditions that judge changes.

A storey registers what it can tell about objects of a kind, such as the personas that speak for a rule. Facts are asked
for at the end of a change set, for many objects at once, as they are then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db import models

Facts = Callable[[Sequence[models.Model]], Sequence[Mapping[str, Any]]]
"""Facts of each of the objects, in their order. A deleted object has no key any more, but its fields."""

_known: dict[str, dict[str, Facts]] = {}


def register_facts(entity_type: str, names: Sequence[str], find: Facts) -> None:
    """`find` tells the facts `names` of objects of `entity_type`: plain values, with a constant number of queries."""
    for name in names:
        _known.setdefault(entity_type, {})[name] = find


def list_facts() -> dict[str, list[str]]:
    """The names of the facts of each kind of object."""
    return {entity_type: sorted(found) for entity_type, found in sorted(_known.items())}


def find_facts(entity_type: str, instances: Sequence[models.Model]) -> list[dict[str, Any]]:
    """All facts of each of `instances`, in their order."""
    found: list[dict[str, Any]] = [{} for _ in instances]
    for find in dict.fromkeys(_known.get(entity_type, {}).values()):
        for own, facts in zip(found, find(instances), strict=True):
            own.update(facts)
    return found
