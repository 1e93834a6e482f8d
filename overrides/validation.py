"""Is an override acceptable? What it may change, and that it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError

from audit.errors import FieldError
from overrides.choices import OVERRIDABLE
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


def check_paths(paths: Any) -> None:
    """Raise unless `paths` is a list of path globs."""
    if not isinstance(paths, list) or not all(isinstance(path, str) and path for path in paths):
        raise ValidationError({"paths": "This must be a list of path globs such as legacy/**."})
