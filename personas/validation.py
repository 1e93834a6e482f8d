"""May this persona speak for this rule?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError

from audit.errors import FieldError
from rules.choices import RuleType

RESERVED = ("assign", "assignments")  # routes of the API beside the personas
MAX_TYPES = 50  # entries that are judged one by one; more are more than there are


def check_persona_name(name: str) -> None:
    """Raise if a persona of this name could not be reached over the API."""
    if name in RESERVED:
        raise ValidationError({"name": f"The names {' and '.join(RESERVED)} are reserved."})


def check_rule_types(rule_types: Any) -> None:
    """Raise unless `rule_types` is a list of known rule types, each once."""
    if not isinstance(rule_types, list):
        raise ValidationError({"rule_types": "This must be a list of rule types."})
    known = ", ".join(RuleType.values)
    if len(rule_types) > MAX_TYPES:
        raise ValidationError({"rule_types": f"At most {MAX_TYPES} entries, these are {len(rule_types)}."})
    problems = [
        FieldError(f"{item!r} is not a rule type. Known: {known}.", pointer=str(index))
        for index, item in enumerate(rule_types)
        if item not in RuleType.values
    ]
    problems += [
        FieldError(f"{item!r} is listed twice.", pointer=str(index))
        for index, item in enumerate(rule_types)
        if item in rule_types[:index]
    ]
    if problems:
        raise ValidationError({"rule_types": problems})


def check_assignment(*, rule_name: str, rule_type: str, persona_name: str, persona_types: Sequence[str]) -> None:
    """Raise unless the persona looks after the rule's type; a persona without types looks after any."""
    if persona_types and rule_type not in persona_types:
        raise ValidationError(
            {
                "persona": ValidationError(
                    f"{persona_name} looks after {', '.join(persona_types)}; {rule_name} is a {rule_type} rule. "
                    "Choose another persona, or add the type to this one.",
                    code="rule_type",
                )
            }
        )
