"""Which pages have reviews in the admin? Each group has a module of its own; here they are registered."""

from __future__ import annotations

from reviews.finding_admin import DiscoveredIssueAdmin, TrackedFindingAdmin
from reviews.prompt_admin import CopilotPromptAdmin
from reviews.session_admin import ReviewSessionAdmin

__all__ = ["CopilotPromptAdmin", "DiscoveredIssueAdmin", "ReviewSessionAdmin", "TrackedFindingAdmin"]
