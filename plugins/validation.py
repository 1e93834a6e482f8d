"""Is a plugin's configuration, or a rule for a plugin, acceptable? Answers in `ValidationError`s that name the field.

Everything costly here is memoised by content below (`plugins.expressions`, `plugins.schemas`, `plugins.registry`), so
that a door may validate before it takes the change set's lock and once more, for nothing, under it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError

from audit.errors import FieldError
from plugins import expressions, registry, schemas
from plugins.contract import RuleError, RuleSpec

MAX_PATTERNS = 50  # a list


def check_plugin_configuration(name: str, configuration: Any) -> None:
    """Raise unless `configuration` satisfies the schema of the installed analyzer `name`."""
    analyzer = registry.analyzers().get(name)
    if analyzer is None:
        raise ValidationError(
            {"name": f"No analyzer {name!r} is installed. Installed: {', '.join(registry.analyzers())}."}
        )
    _check_schema(analyzer.configuration_schema, configuration)


def _check_schema(schema: Mapping[str, Any], configuration: Any) -> None:
    if not isinstance(configuration, dict):
        raise ValidationError({"configuration": "The configuration must be a JSON object."})
    problems = schemas.errors(schema, configuration)
    if problems:
        raise ValidationError(
            {"configuration": [FieldError(message, pointer=pointer.strip("/")) for pointer, message in problems]}
        )


def check_rule(rule: RuleSpec) -> None:
    """Raise unless the rule's analyzer is installed, its configuration fits the schema, and the analyzer can run it."""
    analyzer = registry.analyzers().get(rule.plugin)
    if analyzer is None:
        raise ValidationError(
            {"plugin": f"No analyzer {rule.plugin!r} is installed. Installed: {', '.join(registry.analyzers())}."}
        )
    _check_schema(analyzer.rule_schema, rule.configuration)
    try:
        registry.check_rule(rule)
    except RuleError as error:
        raise explain(error) from error


def check_examples(rule: RuleSpec, examples: Mapping[str, Sequence[str]], configuration: Mapping[str, Any]) -> None:
    """Raise unless each `match` example gives a finding of the rule and each `no_match` example none."""
    problems = registry.check_examples(rule, examples, configuration)
    if problems:
        raise ValidationError(
            {
                "examples": [
                    FieldError(message, pointer=_below(pointer, "examples"), code="example")
                    for pointer, message in problems
                ]
            }
        )


def check_path_patterns(field: str, patterns: Any) -> None:
    """Raise unless `patterns` is a list of regular expressions in the linear-time dialect."""
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise ValidationError({field: "This must be a list of regular expressions."})
    if len(patterns) > MAX_PATTERNS:
        raise ValidationError({field: f"At most {MAX_PATTERNS} expressions, these are {len(patterns)}."})
    problems = []
    for index, pattern in enumerate(patterns):
        try:
            expressions.compile_expression(pattern, field=f"{field}/{index}")
        except RuleError as error:
            problems.append(FieldError(error.message, pointer=str(index), code=error.code))
    if problems:
        raise ValidationError({field: problems})


def explain(error: RuleError) -> ValidationError:
    """A `RuleError` as the error of the model's field."""
    field, _, pointer = error.field.partition("/")
    return ValidationError({field: [FieldError(error.message, pointer=pointer, code=error.code)]})


def _below(pointer: str, field: str) -> str:
    return pointer.strip("/").removeprefix(field).strip("/")
