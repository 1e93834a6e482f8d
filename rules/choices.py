"""What kinds of rules are there, and how bad is a finding? Pure."""

from __future__ import annotations

from django.db.models import TextChoices


class Severity(TextChoices):
    """How bad a finding is, least first. The order of the members is the order of the severities."""

    INFO = "info", "Info"
    LOW = "low", "Low"
    MEDIUM = "medium", "Medium"
    HIGH = "high", "High"
    CRITICAL = "critical", "Critical"

    @property
    def rank(self) -> int:
        """0 for info up to 4 for critical."""
        return list(Severity).index(self)

    @classmethod
    def at_least(cls, severity: str) -> list[Severity]:
        """`severity` and everything worse. Raises `ValueError` for an unknown one."""
        return list(cls)[cls(severity).rank :]


class RuleType(TextChoices):
    """What a rule looks after; it decides which persona speaks for it."""

    SECURITY = "security", "Security"
    PERFORMANCE = "performance", "Performance"
    RELIABILITY = "reliability", "Reliability"
    MAINTAINABILITY = "maintainability", "Maintainability"
    STYLE = "style", "Style"
    TESTING = "testing", "Testing"
    DOCUMENTATION = "documentation", "Documentation"
    CONFIGURATION = "configuration", "Configuration"


class RuleStatus(TextChoices):
    """Where a rule stands in its life: a draft cannot be enabled, a deprecated one is on its way out."""

    DRAFT = "draft", "Draft"
    ACTIVE = "active", "Active"
    DEPRECATED = "deprecated", "Deprecated"
