"""Is a rule acceptable? Its lists, its patterns, its configuration and its examples."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ValidationError

from audit.errors import FieldError
from audit.governed import merge_errors
from plugins.contract import RuleSpec
from plugins.validation import check_examples, check_path_patterns, check_rule

MAX_ITEMS = 50
MAX_EXAMPLE = 10_000  # characters
TAG = re.compile(r"[a-z0-9][a-z0-9._:/-]{0,49}\Z")
FILE_TYPE = re.compile(r"\.[a-z0-9][a-z0-9_+.-]{0,19}\Z")


def normalise_file_types(value: Any) -> Any:
    """`["PY", ".Js"]` → `[".py", ".js"]`; anything that is not a list of text is left for the check to refuse."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return value
    return [item.strip().lower() if item.strip().startswith(".") else f".{item.strip().lower()}" for item in value]


def check_list(field: str, value: Any, fits: Callable[[str], bool], what: str) -> None:
    """Raise unless `value` is a list of at most `MAX_ITEMS` different texts that fit."""
    if not isinstance(value, list):
        raise ValidationError({field: f"This must be a list of {what}."})
    if len(value) > MAX_ITEMS:
        raise ValidationError({field: f"At most {MAX_ITEMS} entries, these are {len(value)}."})
    problems = [
        FieldError(f"{item!r} is not {what}." if isinstance(item, str) else f"This must be {what}.", pointer=str(index))
        for index, item in enumerate(value)
        if not isinstance(item, str) or not fits(item)
    ]
    problems += [
        FieldError(f"{item!r} is listed twice.", pointer=str(index))
        for index, item in enumerate(value)
        if isinstance(item, str) and item in value[:index]
    ]
    if problems:
        raise ValidationError({field: problems})


def check_lists(*, file_types: Any, tags: Any, references: Any) -> None:
    """Raise unless the lists of a rule hold what they should."""
    check_all(
        lambda: check_list(
            "file_types", file_types, lambda item: bool(FILE_TYPE.match(item)), "an extension such as .py"
        ),
        lambda: check_list("tags", tags, lambda item: bool(TAG.match(item)), "a lower-case tag such as injection"),
        lambda: check_list(
            "references",
            references,
            lambda item: 0 < len(item) <= 500 and item.startswith(("https://", "http://", "CWE-")),
            "an address or a CWE number",
        ),
    )


def check_example_shape(examples: Any) -> None:
    """Raise unless `examples` is ``{"match": [text], "no_match": [text]}``."""
    if not isinstance(examples, dict) or set(examples) - {"match", "no_match"}:
        raise ValidationError({"examples": 'Examples are an object {"match": [...], "no_match": [...]}.'})
    for kind, snippets in examples.items():
        if not isinstance(snippets, list) or not all(isinstance(item, str) for item in snippets):
            raise ValidationError({"examples": [FieldError("This must be a list of snippets.", pointer=kind)]})
        for index, snippet in enumerate(snippets):
            if len(snippets) > MAX_ITEMS or len(snippet) > MAX_EXAMPLE:
                raise ValidationError(
                    {
                        "examples": [
                            FieldError(
                                f"At most {MAX_ITEMS} snippets of {MAX_EXAMPLE:,} characters each.",
                                pointer=f"{kind}/{index}",
                            )
                        ]
                    }
                )


def check_content(rule: RuleSpec, *, examples: Any, enabled: bool) -> None:
    """Raise unless the rule can run and, if it is enabled, does what its examples say.

    Examples run with the analyzer's default settings: they tell of the rule, not of one installation.
    """
    check_all(
        lambda: check_lists(file_types=rule.file_types, tags=rule.tags, references=rule.references),
        lambda: check_path_patterns("file_patterns", rule.file_patterns),
        lambda: check_path_patterns("exclude_patterns", rule.exclude_patterns),
        lambda: check_example_shape(examples),
        lambda: check_rule(rule),
    )
    if enabled:
        check_examples(rule, {"match": [], "no_match": [], **examples}, {})


def check_all(*checks: Callable[[], None]) -> None:
    """Run every check and raise all their errors at once, so that a form shows them together."""
    problems = []
    for check in checks:
        try:
            check()
        except ValidationError as error:
            problems.append(error)
    if problems:
        raise merge_errors(problems)
