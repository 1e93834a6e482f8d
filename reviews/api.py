"""Which routes have reviews over HTTP? Each group has a module of its own."""

from __future__ import annotations

from reviews.finding_api import CodebaseViewSet, TrackedFindingViewSet
from reviews.issue_api import DiscoveredIssueViewSet
from reviews.prompt_api import CopilotPromptViewSet
from reviews.session_api import ReviewSessionViewSet

__all__ = [
    "CodebaseViewSet",
    "CopilotPromptViewSet",
    "DiscoveredIssueViewSet",
    "ReviewSessionViewSet",
    "TrackedFindingViewSet",
]
