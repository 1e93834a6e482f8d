"""What may an override target, and where does it stand? Pure."""

from __future__ import annotations

from django.db.models import TextChoices


class TargetType(TextChoices):
    """What an override changes for a while."""

    ANALYSIS_RULE = "analysis_rule", "Analysis rule"
    GOVERNANCE_RULE = "governance_rule", "Governance rule"


class OverrideStatus(TextChoices):
    """Where an override stands between request and end."""

    DRAFT = "draft", "Draft"
    PROPOSED = "proposed", "Proposed"
    ACTIVE = "active", "Active"
    EXPIRED = "expired", "Expired"
    REJECTED = "rejected", "Rejected"
    WITHDRAWN = "withdrawn", "Withdrawn"
    REVOKED = "revoked", "Revoked"


class Enforcement(TextChoices):
    """What happens to a change that does not satisfy a governance rule."""

    BLOCK = "block", "Refuse"
    WARN = "warn", "Warn"
    REQUIRE_OVERRIDE = "require_override", "Refuse without an approved waiver"


SECOND_PERSON = "second-person"
"""The name under which a waiver of the built-in rule is asked for; no governance rule can have it."""

OVERRIDABLE = ("severity", "enabled", "configuration", "message")
"""The fields of an analysis rule that an override may change."""
