"""Could a plugin run now? Looks at the machine, not at the database: package, programs, needs, settings, a trial."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from audit import encryption
from plugins import isolation, masking, obstacles, registry, schemas
from plugins.contract import Analyzer, RuleError
from plugins.dependencies import Program
from plugins.isolation import AnalyzerFailed

HEALTHY, FAILING, MISSING = "healthy", "failing", "missing"


class Look(NamedTuple):
    """What was seen: a status, why in a sentence, and the programs that the analyzer runs."""

    status: str
    detail: str
    programs: tuple[Program, ...] = ()


def look(name: str, configuration: Mapping[str, Any], enabled: Collection[str]) -> Look:
    """Look at the plugin `name` with its settings; `enabled` are the names of those that are on.

    The analyzer is prepared without rules in a process of its own: one that hangs or crashes costs ten seconds at most.
    """
    configuration, lost = encryption.reveal_readable(configuration)
    analyzer = registry.analyzers().get(name)
    if analyzer is None:
        problem = registry.problems().get(name)
        absent = "The package that provides this analyzer is not installed."
        return Look(MISSING, f"Its analyzer {problem}." if problem else absent)
    programs = tuple(obstacles.find_programs(name, again=True))
    lacking = [program.problem for program in programs if program.problem]
    if lacking:
        return Look(MISSING, " ".join(f"{problem[:1].upper()}{problem[1:]}." for problem in lacking), programs)
    if lost:
        return Look(FAILING, " ".join(tell_lost(lost)), programs)
    complaint = _complain(name, analyzer, configuration, enabled)
    if complaint:
        return Look(FAILING, hide_secrets(complaint, name, configuration), programs)
    return Look(HEALTHY, f"Version {analyzer.version} loads and accepts its settings.", programs)


def hide_secrets(text: str, name: str, configuration: Mapping[str, Any]) -> str:
    """`text` without the secret settings that the analyzer `name` may have put into its complaint."""
    return masking.redact(text, list_secrets(name, configuration))


def list_secrets(name: str, configuration: Mapping[str, Any]) -> list[str]:
    """The texts of the secret settings of the analyzer `name`, encrypted or not; those that are lost hide nothing."""
    analyzer = registry.analyzers().get(name)
    places = [place for place, _ in encryption.find_envelopes(configuration)]
    marked = schemas.secret_fields(analyzer.configuration_schema) if analyzer is not None else []
    clear, _ = encryption.reveal_readable(configuration)
    return masking.list_texts(clear, [*places, *marked])


def tell_lost(lost: Mapping[str, encryption.Unreadable]) -> list[str]:
    """A sentence for each secret setting that cannot be decrypted, by its place."""
    return [f"The secret setting {place.strip('/')} cannot be used. {error}" for place, error in lost.items()]


def _complain(
    name: str, analyzer: type[Analyzer], configuration: Mapping[str, Any], enabled: Collection[str]
) -> str | None:
    if name in enabled and (unmet := obstacles.list_unmet(name, enabled)):
        return " ".join(dict.fromkeys(sentence for _, sentence in unmet))
    misfits = schemas.errors(analyzer.configuration_schema, configuration)
    if misfits:
        told = " ".join(f"{pointer.strip('/') or 'all of them'}: {message}" for pointer, message in misfits)
        return f"Its settings do not fit its schema: {told}"
    try:
        isolation.check(registry.source(name), configuration)
    except RuleError as error:
        return f"It refuses its settings: {error.message}"
    except AnalyzerFailed as error:
        return f"Version {analyzer.version} {error}."
    return None
