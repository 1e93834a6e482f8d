"""What did a review find, and what became of it? Results, not configuration, so not governed.

A `ReviewSession` has one `DiscoveredIssue` for each finding of that run. A `TrackedFinding` is what the issues of
several runs have in common: the same problem in the same codebase, with what people decided about it.
"""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from reviews.choices import IssueState, Presence, PromptStatus, Scope, SessionStatus, Triage
from rules.choices import RuleType, Severity


class Codebase(models.Model):
    """What is reviewed again and again: a folder, or whatever a pipeline calls by the same name."""

    key = models.CharField(max_length=64, unique=True, help_text="Digest of the given name, or of the folder.")
    name = models.CharField(max_length=200)
    root = models.TextField(help_text="The folder that was reviewed last.")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "codebases"
        ordering = ["name", "id"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.name


class ReviewSession(models.Model):
    """One run of the rules over a codebase, with the revision of the configuration it ran at."""

    Status = SessionStatus

    tracked_codebase = models.ForeignKey(
        Codebase, null=True, blank=True, on_delete=models.CASCADE, related_name="sessions"
    )
    codebase = models.CharField(max_length=200, help_text="Name of the reviewed folder.")
    root = models.TextField(help_text="The reviewed folder or file.")
    revision = models.BigIntegerField(help_text="Revision of the configuration that ran.")
    status = models.CharField(max_length=20, choices=SessionStatus.choices, default=SessionStatus.RUNNING)
    scope = models.CharField(max_length=20, choices=Scope.choices, default=Scope.FULL)
    base_ref = models.CharField(max_length=250, blank=True, help_text="What changed lines were compared with.")
    exclude = models.JSONField(default=list, blank=True, help_text="Lines as of a .gitignore, left out.")
    started_by = models.CharField(max_length=150)
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    seconds = models.FloatField(null=True, help_text="Time of the analysis.")
    files_total = models.PositiveIntegerField(default=0, help_text="Files to review, once they are known.")
    files_done = models.PositiveIntegerField(default=0, help_text="Files reviewed so far.")
    files_analyzed = models.PositiveIntegerField(default=0)
    files_skipped = models.JSONField(default=dict, help_text="Number of files skipped, by reason.")
    rules_run = models.PositiveIntegerField(default=0)
    counts = models.JSONField(default=dict, help_text="Number of findings by severity, by persona and by state.")
    failures = models.JSONField(default=list, help_text="What analyzers could not do.")
    plugin_runs = models.JSONField(default=dict, help_text="By plugin: seconds, files, failures.")
    cancel_requested = models.BooleanField(default=False)
    heartbeat_at = models.DateTimeField(null=True, blank=True, help_text="Last sign of life of a running review.")

    class Meta:
        db_table = "review_sessions"
        ordering = ["-id"]
        verbose_name = "review session"
        default_permissions = ("view", "delete")
        permissions = [("run_reviewsession", "Can start and cancel a review")]
        indexes = [models.Index(fields=["root", "-id"], name="review_sessions_root")]

    def __str__(self) -> str:
        return f"review {self.pk} of {self.codebase}"


class TrackedFinding(models.Model):
    """A problem in a codebase, from the review that saw it first to the one that no longer does."""

    codebase = models.ForeignKey(Codebase, on_delete=models.CASCADE, related_name="findings")
    key = models.CharField(
        max_length=32, help_text="Stays the same when the code moves; names it in SARIF and prompts."
    )
    rule_name = models.CharField(max_length=100)
    rule_type = models.CharField(max_length=30, choices=RuleType.choices)
    severity = models.CharField(max_length=20, choices=Severity.choices)
    path = models.TextField()
    line = models.PositiveIntegerField()
    message = models.TextField(blank=True)
    code_hash = models.CharField(max_length=32)
    context_hash = models.CharField(max_length=32)
    presence = models.CharField(max_length=20, choices=Presence.choices, default=Presence.PRESENT)
    suppressed = models.BooleanField(default=False, help_text="A comment in the code suppressed it the last time.")
    triage = models.CharField(max_length=20, choices=Triage.choices, default=Triage.OPEN)
    triage_reason = models.TextField(blank=True)
    triaged_by = models.CharField(max_length=150, blank=True)
    triaged_at = models.DateTimeField(null=True, blank=True)
    first_session = models.ForeignKey(ReviewSession, null=True, on_delete=models.SET_NULL, related_name="+")
    last_session = models.ForeignKey(ReviewSession, null=True, on_delete=models.SET_NULL, related_name="+")
    first_seen_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    resolved_at = models.DateTimeField(null=True, blank=True, help_text="When it was no longer there.")

    class Meta:
        db_table = "tracked_findings"
        ordering = ["id"]
        verbose_name = "tracked finding"
        default_permissions = ("view",)
        permissions = [("triage_trackedfinding", "Can decide about findings")]
        constraints = [
            models.UniqueConstraint(fields=["codebase", "key"], name="one_finding_a_key"),
            models.CheckConstraint(
                condition=models.Q(triage__in=Triage.values), name="triage_is_known", violation_error_message="Unknown."
            ),
        ]
        indexes = [
            models.Index(fields=["codebase", "presence", "rule_name"], name="tracked_findings_presence"),
            models.Index(fields=["codebase", "triage"], name="tracked_findings_triage"),
        ]

    def __str__(self) -> str:
        return f"{self.rule_name} in {self.path}:{self.line}"


class FindingDecision(models.Model):
    """Somebody decided about a finding: appended, never changed."""

    finding = models.ForeignKey(TrackedFinding, on_delete=models.CASCADE, related_name="decisions")
    old_triage = models.CharField(max_length=20, choices=Triage.choices)
    new_triage = models.CharField(max_length=20, choices=Triage.choices)
    reason = models.TextField(blank=True)
    decided_by = models.CharField(max_length=150)
    decided_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "finding_decisions"
        ordering = ["id"]
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.decided_by}: {self.old_triage} to {self.new_triage}"


class DiscoveredIssue(models.Model):
    """One finding of a session. It names its rule as text, so that it outlives the rule."""

    session = models.ForeignKey(ReviewSession, on_delete=models.CASCADE, related_name="issues")
    finding = models.ForeignKey(TrackedFinding, null=True, on_delete=models.SET_NULL, related_name="issues")
    state = models.CharField(max_length=20, choices=IssueState.choices, default=IssueState.NEW)
    rule_name = models.CharField(max_length=100)
    rule_type = models.CharField(max_length=30, choices=RuleType.choices)
    severity = models.CharField(max_length=20, choices=Severity.choices)
    plugin = models.CharField(max_length=50, blank=True)
    code = models.CharField(max_length=100, blank=True, help_text="What the tool behind the plugin calls its own rule.")
    personas = models.JSONField(default=list, help_text="Who speaks for the rule; the first one most.")
    path = models.TextField()
    start_line = models.PositiveIntegerField()
    start_column = models.PositiveIntegerField()
    end_line = models.PositiveIntegerField()
    end_column = models.PositiveIntegerField()
    message = models.TextField()
    snippet = models.TextField(blank=True)
    context_start = models.PositiveIntegerField(default=0, help_text="Number of the first line of `context`.")
    context = models.JSONField(default=list, help_text="The lines round the finding; those with credentials masked.")
    suppressed = models.BooleanField(default=False, help_text="Whether a comment in the code suppresses it.")
    suppression_reason = models.TextField(blank=True)
    suppressed_until = models.DateField(null=True, blank=True)
    line_hash = models.CharField(max_length=40, blank=True, help_text="GitHub's `primaryLocationLineHash`.")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "discovered_issues"
        ordering = ["id"]
        verbose_name = "discovered issue"
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["session", "severity"], name="discovered_issues_severity"),
            models.Index(fields=["session", "rule_name"], name="discovered_issues_rule"),
            models.Index(fields=["session", "state"], name="discovered_issues_state"),
        ]

    def __str__(self) -> str:
        return f"{self.path}:{self.start_line} {self.rule_name}"


class CopilotPrompt(models.Model):
    """A task for GitHub Copilot, in the words of a persona: what to mend, why, how, and how to see that it worked."""

    session = models.ForeignKey(ReviewSession, on_delete=models.CASCADE, related_name="prompts")
    name = models.CharField(max_length=100, help_text="Of the file: NAME.prompt.md.")
    title = models.CharField(max_length=200)
    persona = models.CharField(max_length=50)
    status = models.CharField(max_length=20, choices=PromptStatus.choices, default=PromptStatus.DRAFT)
    severity = models.CharField(max_length=20, choices=Severity.choices)
    rule_names = models.JSONField(default=list)
    finding_keys = models.JSONField(default=list, help_text="Keys of the tracked findings it is about.")
    paths = models.JSONField(default=list)
    body = models.TextField(help_text="The file, with its front matter.")
    content_hash = models.CharField(max_length=64)
    revision = models.BigIntegerField(help_text="Revision of the configuration it was written from.")
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "copilot_prompts"
        ordering = ["id"]
        verbose_name = "Copilot prompt"
        default_permissions = ("view", "change")
        constraints = [models.UniqueConstraint(fields=["session", "name"], name="one_prompt_a_name")]
        indexes = [models.Index(fields=["status"], name="copilot_prompts_status")]

    def __str__(self) -> str:
        return self.title
