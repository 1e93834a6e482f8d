"""What stands against a plugin being on? Sentences that say what to install or to enable."""

from __future__ import annotations

from collections.abc import Collection

from plugins import dependencies, registry
from plugins.dependencies import Program


def list_unmet(name: str, enabled: Collection[str]) -> list[tuple[str, str]]:
    """Plugins that `name` requires and that are not there, of a wrong version or off: their names, and sentences."""
    unmet, off = [], []
    installed = registry.analyzers()
    for each in registry.requirements(name):
        needed = installed.get(each.name)
        if needed is None:
            sentence = f"{name} requires {each}: install the package that provides {each.name}, or disable {name}."
            unmet.append((each.name, sentence))
        elif not each.allows(needed.version):
            sentence = (
                f"{name} requires {each}, but version {needed.version} is installed: install a version of "
                f"{each.name} that will do, or disable {name}."
            )
            unmet.append((each.name, sentence))
        elif each.name not in enabled:
            off.append(each.name)
    if off:
        them = "it" if len(off) == 1 else "them"
        sentence = f"{name} requires {', '.join(off)}: enable {them} first, or disable {name}."
        unmet += [(other, sentence) for other in off]
    return unmet


def find_programs(name: str, *, again: bool = False) -> list[Program]:
    """The programs that the installed analyzer `name` runs (see `dependencies.find_programs`)."""
    analyzer = registry.analyzers().get(name)
    return dependencies.find_programs(getattr(analyzer, "executables", ()), again=again)


def list_lacking(name: str) -> list[str]:
    """Programs that `name` runs and that are not there or too old: sentences."""
    return [f"{name} cannot run: {program.problem}." for program in find_programs(name) if program.problem]
