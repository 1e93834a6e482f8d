"""Which routes has the API? All of `/api/v1` on one screen."""

from __future__ import annotations

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from audit.api import ChangeViewSet, RollbackView
from audit.event_stream import ChangeStreamView
from governance_config.access import MeView, TokenView
from governance_config.accounts_api import RoleViewSet, UserViewSet
from governance_config.documentation import DocumentationView, SchemaJSONView, SchemaView
from governance_config.exchange_api import ExportSchemaView, ImportView, PresetViewSet
from governance_config.grants import GRANTS, GrantViewSet
from governance_config.ui_state import UiStateViewSet
from overrides.api import ApprovalPolicyViewSet, ExportView, GovernanceRuleViewSet
from overrides.configuration_api import ConfigurationView
from overrides.notification_api import NotificationViewSet
from overrides.override_api import OverrideViewSet
from overrides.webhook_api import WebhookViewSet
from personas.api import AssignmentViewSet, PersonaViewSet, RuleWithPersonasViewSet
from plugins.api import PluginViewSet
from reviews.api import (
    CodebaseViewSet,
    CopilotPromptViewSet,
    DiscoveredIssueViewSet,
    ReviewSessionViewSet,
    TrackedFindingViewSet,
)

config = SimpleRouter(trailing_slash=False)
config.register("analysis-rules", RuleWithPersonasViewSet, "analysis-rule")
config.register("plugins", PluginViewSet, "plugin")
config.register("personas/assignments", AssignmentViewSet, "assignment")
config.register("personas", PersonaViewSet, "persona")
config.register("governance-rules", GovernanceRuleViewSet, "governance-rule")
config.register("approval-policies", ApprovalPolicyViewSet, "approval-policy")
config.register("governance-overrides", OverrideViewSet, "override")
config.register("webhooks", WebhookViewSet, "webhook")
config.register("audit-trail", ChangeViewSet, "change")
config.register("presets", PresetViewSet, "preset")
config.register("users", UserViewSet, "user")
config.register("roles", RoleViewSet, "role")
config.register("ui-state", UiStateViewSet, "ui-state")

reviews = SimpleRouter(trailing_slash=False)
reviews.register("sessions", ReviewSessionViewSet, "review-session")
reviews.register("sessions/(?P<session_id>[0-9]{1,18})/issues", DiscoveredIssueViewSet, "review-issue")
reviews.register("findings", TrackedFindingViewSet, "finding")
reviews.register("codebases", CodebaseViewSet, "codebase")
reviews.register("prompts", CopilotPromptViewSet, "prompt")

urlpatterns = [
    path("auth/token", TokenView.as_view(), name="token"),
    path("me", MeView.as_view(), name="me"),
    path("me/notifications", NotificationViewSet.as_view({"get": "list"}), name="notifications"),
    path("me/notifications/read", NotificationViewSet.as_view({"post": "mark_read"}), name="notifications-read"),
    path("config/configuration", ConfigurationView.as_view(), name="configuration"),
    path("config/changes", ChangeStreamView.as_view(), name="changes"),
    path("config/export", ExportView.as_view(), name="export"),
    path("config/export/schema", ExportSchemaView.as_view(), name="export-schema"),
    path("config/import", ImportView.as_view(), name="import"),
    path("config/rollback", RollbackView.as_view(), name="rollback"),
    path("config/grants", GrantViewSet.as_view(GRANTS), name="grants"),
    path("config/personas/assign", AssignmentViewSet.as_view({"put": "assign"}), name="assign"),
    path("config/", include(config.urls)),
    path("reviews/", include(reviews.urls)),
    path("schema", SchemaView.as_view(), name="schema"),
    path("schema.json", SchemaJSONView.as_view(), name="schema-json"),
    path("docs", DocumentationView.as_view(), name="docs"),
]
