"""What did a review find? Sessions and their issues: results, not configuration, so not governed."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from rules.choices import RuleType, Severity


class ReviewSession(models.Model):
    """One run of the rules over a codebase, with the revision of the configuration it ran at."""

    class Status(models.TextChoices):
        RUNNING = "running", "Running"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"

    codebase = models.CharField(max_length=200, help_text="Name of the reviewed folder.")
    root = models.TextField(help_text="The reviewed folder or file.")
    revision = models.BigIntegerField(help_text="Revision of the configuration that ran.")
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.RUNNING)
    started_by = models.CharField(max_length=150)
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    seconds = models.FloatField(null=True, help_text="Time of the analysis.")
    files_analyzed = models.PositiveIntegerField(default=0)
    files_skipped = models.JSONField(default=dict, help_text="Number of files skipped, by reason.")
    rules_run = models.PositiveIntegerField(default=0)
    counts = models.JSONField(default=dict, help_text="Number of findings by severity and by persona.")
    failures = models.JSONField(default=list, help_text="What analyzers could not do.")

    class Meta:
        db_table = "review_sessions"
        ordering = ["-id"]
        verbose_name = "review session"
        default_permissions = ("view", "delete")
        permissions = [("run_reviewsession", "Can start a review")]
        indexes = [models.Index(fields=["root", "-id"], name="review_sessions_root")]

    def __str__(self) -> str:
        return f"review {self.pk} of {self.codebase}"


class DiscoveredIssue(models.Model):
    """One finding of a session. It names its rule as text, so that it outlives the rule."""

    session = models.ForeignKey(ReviewSession, on_delete=models.CASCADE, related_name="issues")
    rule_name = models.CharField(max_length=100)
    rule_type = models.CharField(max_length=30, choices=RuleType.choices)
    severity = models.CharField(max_length=20, choices=Severity.choices)
    personas = models.JSONField(default=list, help_text="Who speaks for the rule; the first one most.")
    path = models.TextField()
    start_line = models.PositiveIntegerField()
    start_column = models.PositiveIntegerField()
    end_line = models.PositiveIntegerField()
    end_column = models.PositiveIntegerField()
    message = models.TextField()
    snippet = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "discovered_issues"
        ordering = ["id"]
        verbose_name = "discovered issue"
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["session", "severity"], name="discovered_issues_severity"),
            models.Index(fields=["session", "rule_name"], name="discovered_issues_rule"),
        ]

    def __str__(self) -> str:
        return f"{self.path}:{self.start_line} {self.rule_name}"
