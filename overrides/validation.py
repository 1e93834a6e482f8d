"""Is an override acceptable, and can a governance rule judge? What they may say, and what their examples prove."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError

from audit import encryption
from audit.documents import canonical
from audit.errors import FieldError
from overrides import conditions
from overrides.choices import OVERRIDABLE, WAIVER_FIELDS
from rules.choices import Severity


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` changed as RFC 7396 says: objects are merged, null removes, anything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def find_patch(old: Any, new: Any) -> Any:
    """The merge patch that makes `new` of `old`. Raises `ValueError` where none does: a patch cannot set null."""
    patch = _difference(old, new)
    if canonical(merge_patch(old, patch)) != canonical(new):
        raise ValueError("no merge patch makes this change")
    return patch


def _difference(old: Any, new: Any) -> Any:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    changed = {key: value for key, value in new.items() if key not in old or canonical(old[key]) != canonical(value)}
    return {
        **{key: _difference(old.get(key), value) for key, value in changed.items()},
        **dict.fromkeys(key for key in old if key not in new),
    }


def check_override_config(override_config: Any) -> None:
    """Raise unless `override_config` is a merge patch of what may be overridden."""
    if not isinstance(override_config, Mapping) or not override_config:
        raise ValidationError({"override_config": "An override is an object with at least one field to change."})
    problems = [
        FieldError(f"{name!r} cannot be overridden. Fields: {', '.join(OVERRIDABLE)}.", pointer=str(name))
        for name in override_config
        if name not in OVERRIDABLE
    ]
    if "severity" in override_config and override_config["severity"] not in Severity.values:
        problems.append(FieldError(f"Known severities: {', '.join(Severity.values)}.", pointer="severity"))
    if "enabled" in override_config and not isinstance(override_config["enabled"], bool):
        problems.append(FieldError("This must be true or false.", pointer="enabled"))
    if "configuration" in override_config and not isinstance(override_config["configuration"], Mapping):
        problems.append(FieldError("This must be an object.", pointer="configuration"))
    if "message" in override_config and not isinstance(override_config["message"], str):
        problems.append(FieldError("This must be text.", pointer="message"))
    if problems:
        raise ValidationError({"override_config": problems})


def names_one(wanted: Mapping[str, Any]) -> bool:
    """Whether what a waiver is about is one object, and not all of a kind."""
    return "entity_type" in wanted and not {"entity_id", "entity_name"}.isdisjoint(wanted)


def check_waiver(override_config: Any) -> None:
    """Raise unless `override_config` names the object that a waiver is about, or nothing: then it is about all."""
    if not isinstance(override_config, Mapping):
        raise ValidationError({"override_config": f"A waiver is an object with any of {', '.join(WAIVER_FIELDS)}."})
    problems = [
        FieldError(f"A waiver does not know {name!r}. Fields: {', '.join(WAIVER_FIELDS)}.", pointer=str(name))
        for name in override_config
        if name not in WAIVER_FIELDS
    ]
    problems += [
        FieldError("This must be text that names something.", pointer=name)
        for name in WAIVER_FIELDS
        if name in override_config and not (isinstance(override_config[name], str) and override_config[name].strip())
    ]
    if problems:
        raise ValidationError({"override_config": problems})


MAX_PATHS = 50
MAX_PATH = 300  # characters


def check_paths(paths: Any) -> None:
    """Raise unless `paths` is a list of path globs."""
    if not isinstance(paths, list) or not all(isinstance(path, str) and path.strip() for path in paths):
        raise ValidationError({"paths": "This must be a list of path globs such as legacy/**."})
    if len(paths) > MAX_PATHS:
        raise ValidationError({"paths": f"At most {MAX_PATHS} globs, these are {len(paths)}."})
    problems = [
        FieldError(f"A glob has {MAX_PATH} characters at most.", pointer=str(index))
        for index, path in enumerate(paths)
        if len(path) > MAX_PATH
    ]
    if problems:
        raise ValidationError({"paths": problems})


def find_leaves(patch: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The places that a merge patch changes: ``{"configuration": {"limit": 5}}`` → ``("configuration", "limit")``."""
    for name, value in patch.items():
        if isinstance(value, Mapping) and value and not encryption.is_shown(value):
            yield from find_leaves(value, (*path, name))
        else:
            yield (*path, name)


def look_up(document: Any, path: Sequence[str]) -> Any:
    """The value at `path`, or None where there is none."""
    for name in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(name)
    return document


APPLIES_TO = ("entity_types", "change_types")
EXAMPLES = ("pass", "fail")
MAX_EXAMPLES = 20
ACTOR = {"kind": "user", "name": "somebody", "roles": [], "is_superuser": False}
CHANGE = {
    "action": "",
    "type": "",
    "entity_type": "",
    "entity_id": "",
    "entity_name": "",
    "source": "api",
    "reason": "",
}


def check_governance_rule(*, applies_to: Any, condition: str, examples: Any, enabled: bool) -> None:
    """Raise unless the condition can be judged and does what its examples say."""
    _check_lists("applies_to", applies_to, APPLIES_TO, str)
    _check_lists("examples", examples, EXAMPLES, dict)
    try:
        conditions.compile_condition(condition)
    except conditions.ConditionError as error:
        raise ValidationError({"condition": str(error)}) from error
    if enabled and not all(examples.get(kind) for kind in EXAMPLES):
        raise ValidationError(
            {"examples": "An enabled governance rule needs an example that passes and one that fails."}
        )
    problems = [
        FieldError(problem, pointer=f"{kind}/{index}", code="example")
        for kind in EXAMPLES
        for index, example in enumerate(examples.get(kind, ()))
        if (problem := _try(condition, example, kind)) is not None
    ]
    if problems:
        raise ValidationError({"examples": problems})


def _check_lists(field: str, value: Any, names: tuple[str, ...], kind: type) -> None:
    if not isinstance(value, Mapping) or set(value) - set(names):
        raise ValidationError({field: f"This is an object with the lists {' and '.join(names)}."})
    for name, items in value.items():
        if not isinstance(items, list) or not all(isinstance(item, kind) for item in items):
            what = "texts" if kind is str else "objects"
            raise ValidationError({field: [FieldError(f"This must be a list of {what}.", pointer=name)]})
        if len(items) > MAX_EXAMPLES:
            raise ValidationError({field: [FieldError(f"At most {MAX_EXAMPLES} entries.", pointer=name)]})


def _try(condition: str, example: Mapping[str, Any], kind: str) -> str | None:
    """What the example proves against the condition, or None."""
    unknown = sorted(set(example) - set(conditions.VARIABLES))
    if unknown:
        return f"{', '.join(unknown)} is not known. Known are {', '.join(conditions.VARIABLES)}."
    variables = {
        "old": example.get("old"),
        "new": example.get("new"),
        "actor": {**ACTOR, **_read_object(example, "actor")},
        "change": {**CHANGE, **_read_object(example, "change")},
        "facts": _read_object(example, "facts"),
    }
    try:
        passes = conditions.holds(condition, variables)
    except conditions.ConditionError as error:
        return f"The condition cannot be judged for this example: {error}."
    if passes is (kind == "pass"):
        return None
    return (
        "This example should pass, but the condition refuses it."
        if kind == "pass"
        else ("This example should fail, but the condition lets it pass.")
    )


def _read_object(example: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = example.get(name)
    return value if isinstance(value, Mapping) else {}
