"""Do the options of a rule go with what it was told to do? For analyzers whose rules choose one of several jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from plugins.contract import RuleError, RuleSpec

_NOT_GIVEN = (None, "", False)


def check_options(
    rule: RuleSpec,
    chooser: str,
    allowed: Mapping[str, Collection[str]],
    required: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Raise `RuleError` at the first option that is missing, or that does nothing for what `chooser` names.

    `allowed` and `required` are names of options by what the field `chooser` may say. One that is empty counts as not
    given: forms send those.
    """
    configuration = rule.configuration
    chosen = configuration[chooser]
    for name in (required or {}).get(chosen, ()):
        if configuration.get(name) in (*_NOT_GIVEN, []):
            message = f"The {chooser} `{chosen}` needs this."
            raise RuleError(message, field=f"configuration/{name}", code="required")
    for name, value in configuration.items():
        mine = name == chooser or name in allowed[chosen]
        if not mine and value not in (*_NOT_GIVEN, []):
            others = " and ".join(f"`{each}`" for each, options in allowed.items() if name in options)
            message = f"This is an option of {others}; `{chosen}` does not know it."
            raise RuleError(message, field=f"configuration/{name}", code="not_for_this")
