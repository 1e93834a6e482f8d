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


class DecisionKind(TextChoices):
    """What somebody did with an override; each leaves a row that nobody changes."""

    REQUESTED = "requested", "Requested"
    EDITED = "edited", "Edited"
    PROPOSED = "proposed", "Proposed"
    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"
    WITHDRAWN = "withdrawn", "Withdrawn"
    REVOKED = "revoked", "Revoked"
    EXPIRED = "expired", "Expired"
    BREAK_GLASS = "break_glass", "Put in force in an emergency"
    CONFIRMED = "confirmed", "Confirmed after an emergency"
    RESTORED = "restored", "Brought back as a draft"


class NotificationKind(TextChoices):
    """Why somebody is told of an override."""

    TO_APPROVE = "to_approve", "To approve"
    EMERGENCY = "emergency", "Emergency to review"
    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"
    REVOKED = "revoked", "Revoked"
    CONFIRMED = "confirmed", "Emergency confirmed"
    ENDS_SOON = "ends_soon", "Ends soon"


FINAL = (OverrideStatus.EXPIRED, OverrideStatus.WITHDRAWN, OverrideStatus.REVOKED)
"""States that an override does not leave: what is wanted again is asked for again."""


class Enforcement(TextChoices):
    """What happens to a change that does not satisfy a governance rule."""

    BLOCK = "block", "Refuse"
    WARN = "warn", "Warn"
    REQUIRE_OVERRIDE = "require_override", "Refuse without an approved waiver"


SECOND_PERSON = "second-person"
"""The name under which a waiver of the built-in rule is asked for; no governance rule can have it."""

OVERRIDABLE = ("severity", "enabled", "configuration", "message")
"""The fields of an analysis rule that an override may change."""

WAIVER_FIELDS = ("entity_type", "entity_id", "entity_name")
"""What a waiver of a governance rule may name: the object that it is about."""

JUDGING_FIELDS = ("condition", "applies_to", "enforcement")
"""The fields of a governance rule that decide what a waiver of it means."""
