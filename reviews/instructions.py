"""What does Copilot always have to know of the rules in force? Pure: no ORM, no HTTP.

Made from the configuration alone, so that the files of two checkouts are the same whatever was found in them:
- `.github/instructions/PERSONA-LANGUAGE.instructions.md`, which Copilot reads with the files it is about,
- `.github/agents/PERSONA.agent.md`, the persona as somebody to talk to,
- `.github/copilot-instructions.md`, which is all that a review inside an editor reads.
A file that is too long loses its least important words first, then its least important rules, and says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from django.template import Context

from plugins.contract import RuleSpec
from reviews import generated, quoting
from reviews.generated import Document
from reviews.grouping import NOBODY, RANKS, rank, speaker_of
from reviews.prompts import Speaker, find_speaker, template

MAX_INSTRUCTIONS = 4_000
"""Characters of an instruction file that Copilot's code review reads."""
MAX_AGENT = 30_000
"""Characters that the body of an agent may have."""
INSTRUCTIONS, AGENTS = ".github/instructions", ".github/agents"
REPOSITORY = ".github/copilot-instructions.md"
TOOLS = ("read", "search", "edit", "execute")

_LANGUAGES: tuple[tuple[str, str, str], ...] = (
    ("python", "Python", "py pyi"),
    ("javascript", "JavaScript and TypeScript", "js jsx mjs cjs ts tsx mts cts vue svelte"),
    ("go", "Go", "go"),
    ("java", "Java and Kotlin", "java kt kts"),
    ("csharp", "C#", "cs"),
    ("ruby", "Ruby", "rb erb"),
    ("shell", "shell scripts", "sh bash"),
    ("docker", "Dockerfiles", "dockerfile containerfile"),
    ("yaml", "YAML", "yml yaml"),
    ("terraform", "Terraform", "tf hcl"),
    ("web", "HTML and CSS", "html htm css scss"),
    ("docs", "documentation", "md rst adoc"),
)
_BY_TYPE = {f".{ending}": (name, title) for name, title, endings in _LANGUAGES for ending in endings.split()}
_EVERYTHING = ("", "any file")
_SPREAD = 2
"""Languages that a rule is listed under; one that is about more of them is listed under any file."""
_NAMED_FILES = {
    ".dockerfile": ("Dockerfile", "Dockerfile.*", "*.dockerfile"),
    ".containerfile": ("Containerfile", "Containerfile.*"),
    ".makefile": ("Makefile", "Makefile.*"),
    ".jenkinsfile": ("Jenkinsfile", "Jenkinsfile.*"),
    ".env": (".env", ".env.*", "*.env"),
}


class Standing(NamedTuple):
    """The files, and what a person should know about them."""

    documents: list[Document]
    warnings: list[str]


def make_documents(rules: Iterable[RuleSpec], personas: Iterable[Speaker], *, revision: int) -> Standing:
    """Instruction and agent files of the rules in force, and the one for the whole repository."""
    ordered = sorted(rules, key=lambda rule: (-rank(rule), rule.name))
    speakers = list(personas)
    standing = Standing([], [])
    if not ordered:
        return standing
    by_file: dict[tuple[str, str, str], list[RuleSpec]] = defaultdict(list)
    by_persona: dict[str, list[RuleSpec]] = defaultdict(list)
    for rule in ordered:
        for language in _languages(rule):
            by_file[speaker_of(rule), *language].append(rule)
        for persona in dict.fromkeys(rule.personas or (NOBODY,)):
            by_persona[persona].append(rule)
    for (persona, name, title), mine in sorted(by_file.items()):
        _add_instructions(standing, find_speaker(persona, speakers), name, title, mine, revision)
    for persona, mine in sorted(by_persona.items()):
        _add_agent(standing, find_speaker(persona, speakers), mine, revision)
    _add_repository(standing, [find_speaker(name, speakers) for name in sorted(by_persona)], ordered, revision)
    return standing


def globs(file_types: Sequence[str]) -> str:
    """File types as Copilot's `applyTo` takes them: one text, any depth, separated by commas."""
    patterns = [
        f"**/{pattern}" for each in sorted(set(file_types)) for pattern in _NAMED_FILES.get(each, (f"*{each}",))
    ]
    return ",".join(patterns) or "**"


def _language(file_type: str) -> tuple[str, str]:
    return _BY_TYPE.get(file_type, (file_type.strip("."), f"{file_type} files"))


def _languages(rule: RuleSpec) -> list[tuple[str, str]]:
    """Name and title of the languages that a rule is about."""
    found = list(dict.fromkeys(_language(each) for each in rule.file_types))
    return found if 0 < len(found) <= _SPREAD else [_EVERYTHING]


def _add_instructions(
    standing: Standing, speaker: Speaker, language: str, title: str, rules: Sequence[RuleSpec], revision: int
) -> None:
    types = [
        each for rule in rules for each in rule.file_types if _BY_TYPE.get(each, (each.strip("."),))[0] == language
    ]
    who = quoting.prose(speaker.title or speaker.name, 80)
    front = {
        "applyTo": globs(types) if language else "**",
        "description": quoting.prose(f"{who}: what to look for in {title}", 200),
    }
    values = {
        "who": who,
        "language": title,
        "voice": quoting.paragraph(quoting.sentences(speaker.voice or speaker.description, 320)),
    }
    forms = [_forms(rule) for rule in rules]
    path = f"{INSTRUCTIONS}/{generated.slug(speaker.name, language)}.instructions.md"
    _add(standing, path, "instructions.md", front, values, forms, MAX_INSTRUCTIONS, revision)


def _add_agent(standing: Standing, speaker: Speaker, rules: Sequence[RuleSpec], revision: int) -> None:
    who = quoting.prose(speaker.title or speaker.name, 80)
    description = quoting.sentences(speaker.description, 160) or "Reviews by the rules of this project."
    number = "1 rule" if len(rules) == 1 else f"{len(rules)} rules"
    front = {
        "name": who,
        "description": quoting.prose(f"{description} Reviews by {number} of this project.", 250),
        "tools": TOOLS,
    }
    values = {
        "who": who,
        "description": quoting.paragraph(quoting.sentences(speaker.description, 400)),
        "voice": quoting.paragraph(quoting.prose(speaker.voice, 6_000)),
    }
    forms = [_forms(rule, with_types=True) for rule in rules]
    path = f"{AGENTS}/{generated.slug(speaker.name)}.agent.md"
    _add(standing, path, "agent.md", front, values, forms, MAX_AGENT, revision)


def _add_repository(standing: Standing, speakers: Sequence[Speaker], rules: Sequence[RuleSpec], revision: int) -> None:
    values = {
        "speakers": [
            {"who": quoting.prose(each.title or each.name, 60), "description": quoting.prose(each.description, 120)}
            for each in speakers[:10]
        ],
    }
    worst = [rule for rule in rules if rank(rule) >= RANKS["high"]]
    # Longer forms are in the files by language.
    forms = [_forms(rule, with_paths=False)[:2] for rule in worst]
    _add(standing, REPOSITORY, "repository.md", {}, values, forms, MAX_INSTRUCTIONS, revision)


def _forms(rule: RuleSpec, *, with_types: bool = False, with_paths: bool = True) -> tuple[str, ...]:
    """A rule as an entry of a list: as short as can be, with what to do instead, with the reason, with all of it."""
    about = [rule.severity, *([" and ".join(title for _, title in _languages(rule))] if with_types else [])]
    if with_paths and rule.file_patterns:
        about.append("in paths like " + " or ".join(quoting.code(each, 80) for each in rule.file_patterns[:2]))
    head = f"- **{quoting.prose(rule.title or rule.name, 100)}** [{rule.name}] ({', '.join(about)})"
    short, whole = quoting.sentences(rule.remediation, 160), quoting.prose(rule.remediation, 1_000)
    reason = quoting.sentences(rule.description, 160)
    return (
        f"{head}.",
        f"{head}. {short}".rstrip(),
        f"{head}. {reason} {short}".rstrip(),
        f"{head}. {quoting.prose(rule.description, 1_000)} {whole}".rstrip(),
    )


def _add(
    standing: Standing,
    path: str,
    name: str,
    front_matter: Mapping[str, str | Sequence[str]],
    values: Mapping[str, object],
    forms: Sequence[Sequence[str]],
    budget: int,
    revision: int,
) -> None:
    def write(entries: Sequence[str], left_out: int) -> str:
        context = Context({**values, "entries": entries, "left_out": left_out and str(left_out)}, autoescape=False)
        return generated.assemble(front_matter, template(name).render(context), revision)

    entries = _fill(forms, budget - len(write(["-"], len(forms))))
    left_out = len(forms) - len(entries)
    standing.documents.append(Document(path, write(entries, left_out)))
    # What the file for the whole repository leaves out stands in the others.
    if left_out and path != REPOSITORY:
        standing.warnings.append(f"{path}: {left_out} of {len(forms)} rules do not fit into {budget:,} characters.")


def _fill(forms: Sequence[Sequence[str]], room: int) -> list[str]:
    """As many entries as fit into `room` characters, first come, in as long a form as then fits, again first come."""
    entries: list[str] = []
    for shortest, *_ in forms:
        if len(shortest) + 1 > room:
            break
        entries.append(shortest)
        room -= len(shortest) + 1
    for level in range(1, max(map(len, forms), default=1)):
        for index, entry in enumerate(entries):
            longer = forms[index][min(level, len(forms[index]) - 1)]
            if 0 <= len(longer) - len(entry) <= room:
                room -= len(longer) - len(entry)
                entries[index] = longer
    return entries
