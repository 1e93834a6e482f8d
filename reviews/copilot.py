"""What becomes of the prompts of a review? Written, judged by people, put into a repository, and not told twice.

A prompt is a draft until somebody has read it and says that it is ready. Either can be exported, which is when its file
is written. People say when it was used, and when it is not wanted. Such a decision holds for the prompts of later
reviews that say the same, or are about the same findings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Max, QuerySet
from django.utils import timezone

from audit.errors import StateConflict
from audit.permissions import require
from overrides.effective import Configuration, load_configuration
from plugins.contract import Finding, RuleSpec
from reviews import export
from reviews.choices import DISMISSED, PromptStatus
from reviews.export import Drift, Exported, Kind
from reviews.generated import Document, digest_of
from reviews.grouping import FOLDER, Place
from reviews.instructions import Standing, make_documents
from reviews.models import CopilotPrompt, DiscoveredIssue, ReviewSession
from reviews.prompts import Prompt, Speaker, file_path, make_prompts
from rules.choices import Severity

MAX_FINDINGS = 5_000
"""Findings that are looked at for prompts, the most severe ones; more than a person would ever ask Copilot for."""

MOVES: dict[str, tuple[str, ...]] = {
    PromptStatus.DRAFT: (PromptStatus.READY, PromptStatus.EXPORTED, PromptStatus.USED, PromptStatus.DISMISSED),
    PromptStatus.READY: (PromptStatus.DRAFT, PromptStatus.EXPORTED, PromptStatus.USED, PromptStatus.DISMISSED),
    PromptStatus.EXPORTED: (PromptStatus.USED, PromptStatus.DISMISSED),
    PromptStatus.USED: (PromptStatus.READY, PromptStatus.DISMISSED),
    PromptStatus.DISMISSED: (PromptStatus.DRAFT,),
}
_WANTED = (PromptStatus.DRAFT, PromptStatus.READY, PromptStatus.EXPORTED)
_DECIDED = (PromptStatus.USED, PromptStatus.DISMISSED)


@dataclass(frozen=True)
class Composition:
    """The prompts of a session with the status that each has, and how many findings did not get into any."""

    prompts: list[tuple[Prompt, str]]
    left_out: int
    revision: int

    def documents(self) -> list[Document]:
        """The files of the prompts that are wanted."""
        return [Document(prompt.path, prompt.body) for prompt, status in self.prompts if status in _WANTED]


class Written(NamedTuple):
    """The stored prompts of a session, most severe first, and how many findings did not get into any."""

    prompts: list[CopilotPrompt]
    left_out: int


def compose(session: ReviewSession, configuration: Configuration | None = None) -> Composition:
    """What the prompts of `session` are by the configuration in force, or the given one. Stores nothing."""
    configuration = configuration or load_configuration()
    issues = DiscoveredIssue.objects.filter(session=session, suppressed=False).exclude(finding__triage__in=DISMISSED)
    places = list(_places(issues, configuration.specs_anywhere))
    made = make_prompts(places, _speakers(configuration), revision=configuration.revision)
    earlier = _earlier(session, [prompt.name for prompt in made.prompts])
    prompts = [(prompt, _status(prompt, earlier.get(prompt.name))) for prompt in made.prompts]
    return Composition(prompts, made.left_out + issues.count() - len(places), configuration.revision)


def write_prompts(session: ReviewSession, configuration: Configuration | None = None) -> Written:
    """Store the prompts of `session`, most severe first. Done again, rows keep their identity and what people said."""
    with transaction.atomic():
        # Two writers of one session would each find nothing there.
        ReviewSession.objects.select_for_update().get(pk=session.pk)
        composition = compose(session, configuration)
        stored = {row.name: row for row in CopilotPrompt.objects.filter(session=session)}
        rows = []
        for prompt, status in composition.prompts:
            row = stored.pop(prompt.name, None) or CopilotPrompt(session=session, name=prompt.name)
            row.title, row.persona, row.severity = prompt.title, prompt.persona, prompt.severity
            row.rule_names, row.finding_keys = list(prompt.rule_names), list(prompt.finding_keys)
            row.paths, row.body, row.content_hash = list(prompt.paths), prompt.body, digest_of(prompt.body)
            row.status, row.revision, row.updated_at = status, composition.revision, timezone.now()
            row.save()
            rows.append(row)
        CopilotPrompt.objects.filter(pk__in=[row.pk for row in stored.values()]).delete()
    return Written(rows, composition.left_out)


def change_status(prompt: CopilotPrompt, status: str, user: Any) -> CopilotPrompt:
    """Say where a prompt stands. Raises `NotPermitted`, and `StateConflict` if it cannot get there from where it is."""
    require(user, "change", prompt)
    with transaction.atomic():
        row = CopilotPrompt.objects.select_for_update().get(pk=prompt.pk)
        if status == row.status:
            return row
        if status not in MOVES[row.status]:
            known = ", ".join(MOVES[row.status])
            raise StateConflict(f"A prompt that is {row.status} cannot become {status}; it can become {known}.")
        row.status, row.updated_at = status, timezone.now()
        row.save(update_fields=["status", "updated_at"])
    return row


def export_files(root: Path, session: ReviewSession, configuration: Configuration | None = None) -> Exported:
    """Write instructions, agents and the stored prompts of `session` below `root`. Raises `export.ExportError`.

    Prompts whose files are there afterwards are exported. What has been used or dismissed is removed.
    """
    configuration = configuration or load_configuration()
    rows = list(CopilotPrompt.objects.filter(session=session, status__in=_WANTED))
    prompts = [Document(file_path(row.name), row.body) for row in rows]
    done = export.write(root, [*make_standing(configuration).documents, *prompts])
    kept = {drift.path for drift in done.kept}
    there = [row.pk for row in rows if file_path(row.name) not in kept]
    CopilotPrompt.objects.filter(pk__in=there, status__in=_WANTED).exclude(status=PromptStatus.EXPORTED).update(
        status=PromptStatus.EXPORTED, updated_at=timezone.now()
    )
    return done


def check_files(root: Path, session: ReviewSession, configuration: Configuration | None = None) -> list[Drift]:
    """How the files below `root` differ from what `export_files` would write. Raises `export.ExportError`.

    Prompts are a list of work: a repository that keeps none of them misses none.
    """
    configuration = configuration or load_configuration()
    prompts = compose(session, configuration).documents()
    drifts = export.compare(root, [*make_standing(configuration).documents, *prompts])
    of_prompts = [drift for drift in drifts if drift.path.startswith(f"{FOLDER}/")]
    if len(of_prompts) == len(prompts) and all(drift.kind is Kind.MISSING for drift in of_prompts):
        return [drift for drift in drifts if drift not in of_prompts]
    return drifts


def make_standing(configuration: Configuration) -> Standing:
    """The files that follow from the configuration alone, and what does not fit into them."""
    return make_documents(configuration.specs, _speakers(configuration), revision=configuration.revision)


def _speakers(configuration: Configuration) -> list[Speaker]:
    return [Speaker(each["name"], each["title"], each["description"], each["voice"]) for each in configuration.personas]


def _places(issues: QuerySet[DiscoveredIssue], rules: Sequence[RuleSpec]) -> Iterator[Place]:
    """The most severe of the issues whose rules are still in force, as they were judged in their review."""
    by_name = {rule.name: rule for rule in rules}
    judged: dict[tuple[str, str, tuple[str, ...]], RuleSpec] = {}
    room = MAX_FINDINGS
    for severity in reversed(Severity.values):
        rows = issues.filter(severity=severity, rule_name__in=by_name).select_related("finding")
        for row in rows.order_by("path", "start_line", "id")[:room]:
            personas = tuple(row.personas)
            key = (row.rule_name, row.severity, personas)
            if key not in judged:
                judged[key] = replace(by_name[row.rule_name], severity=row.severity, personas=personas)
            room -= 1
            yield _place(row, judged[key])


def _place(row: DiscoveredIssue, rule: RuleSpec) -> Place:
    return Place(
        rule=rule,
        finding=Finding(
            rule=row.rule_name,
            path=row.path,
            start_line=row.start_line,
            start_column=row.start_column,
            end_line=row.end_line,
            end_column=row.end_column,
            message=row.message,
            snippet=row.snippet,
            code=row.code,
        ),
        key=row.finding.key if row.finding is not None else "",
        state=row.state,
        context_start=row.context_start,
        context=row.context,
    )


def _earlier(session: ReviewSession, names: Sequence[str]) -> dict[str, CopilotPrompt]:
    """The newest prompts of these names in the codebase of `session`, its own among them."""
    codebase = session.tracked_codebase_id
    of_codebase = {"session__tracked_codebase": codebase} if codebase else {"session__root": session.root}
    newest = (
        CopilotPrompt.objects.filter(name__in=names, session__lte=session.pk, **of_codebase)
        .order_by()
        .values("name")
        .annotate(newest=Max("pk"))
        .values("newest")
    )
    return {row.name: row for row in CopilotPrompt.objects.filter(pk__in=newest).defer("body")}


def _status(prompt: Prompt, earlier: CopilotPrompt | None) -> str:
    """Where a prompt starts: where it was if it says the same, and decided if that was about the same findings."""
    if earlier is None:
        return PromptStatus.DRAFT
    if earlier.content_hash == digest_of(prompt.body):
        return earlier.status
    same = bool(prompt.finding_keys) and set(prompt.finding_keys) == set(earlier.finding_keys)
    return earlier.status if same and earlier.status in _DECIDED else PromptStatus.DRAFT
