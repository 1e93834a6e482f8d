"""Where can a session, a finding and a prompt stand? Pure."""

from __future__ import annotations

from django.db.models import TextChoices


class SessionStatus(TextChoices):
    """Where a review stands. Those that a person has started wait as queued until a worker takes them."""

    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


UNFINISHED = (SessionStatus.QUEUED, SessionStatus.RUNNING)


class Scope(TextChoices):
    """How much of the codebase a review looked at. Only a full one can tell that something was fixed."""

    FULL = "full", "Everything"
    PART = "part", "A part of it"
    CHANGES = "changes", "Changed lines only"


class IssueState(TextChoices):
    """What an issue is, compared with what was known of the codebase when the review began."""

    NEW = "new", "New"
    EXISTING = "existing", "Existing"
    REAPPEARED = "reappeared", "Reappeared"


class Presence(TextChoices):
    """Whether a finding was there the last time somebody could tell."""

    PRESENT = "present", "Present"
    FIXED = "fixed", "Fixed"
    RULE_REMOVED = "rule_removed", "Rule removed"
    NOT_REVIEWED = "not_reviewed", "Not reviewed"


GONE = (Presence.FIXED.value, Presence.RULE_REMOVED.value)
"""What a review counts beside the states of the issues that it found."""


class Triage(TextChoices):
    """What people decided about a finding. No review changes it."""

    OPEN = "open", "Open"
    ACKNOWLEDGED = "acknowledged", "Acknowledged"
    FALSE_POSITIVE = "false_positive", "False positive"
    WONT_FIX = "wont_fix", "Won't fix"


DISMISSED = (Triage.FALSE_POSITIVE, Triage.WONT_FIX)
"""Decisions after which a finding no longer counts against the codebase."""


class PromptStatus(TextChoices):
    """Where a prompt stands between being written and being used."""

    DRAFT = "draft", "Draft"
    READY = "ready", "Ready"
    EXPORTED = "exported", "Exported"
    USED = "used", "Used"
    DISMISSED = "dismissed", "Dismissed"
