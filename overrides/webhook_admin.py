"""How does somebody set up, try and watch webhooks in the admin?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from unfold.contrib.filters.admin import BooleanRadioFilter
from unfold.widgets import UnfoldAdminPasswordWidget

from audit.badges import draw_chips, draw_switch
from audit.bulk_admin import BulkChange
from audit.forms import GovernedForm
from audit.governed_admin import GovernedAdmin
from audit.permissions import may_see_some, permitted
from overrides.models import DeliveryStatus, Webhook, WebhookDelivery
from overrides.webhook_models import MAX_SECRET
from overrides.webhooks import send_test
from plugins.forms import ConfigurationField

SHOWN = 20
KINDS: Mapping[str, Any] = {"type": "array", "items": {"type": "string", "title": ""}}


class WebhookForm(GovernedForm):
    """A webhook. Its secret is typed in and never shown."""

    secret = forms.CharField(
        label="Secret",
        required=False,
        strip=False,
        max_length=MAX_SECRET,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="At least 16 characters, which sign the requests. Left empty, it stays as it is.",
    )
    filter_types = ConfigurationField(label="Kinds of changes", schema=KINDS, required=False)
    entity_types = ConfigurationField(label="Kinds of objects", schema=KINDS, required=False)

    class Meta:
        model = Webhook
        fields = ("name", "url", "secret", "filter_types", "entity_types", "enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["secret"] = ""

    def clean_secret(self) -> Any:
        """What is left empty stays."""
        return self.cleaned_data["secret"] or self.instance.secret


def _switch(enabled: bool) -> BulkChange:
    def change(webhook: Webhook, cleaned: Mapping[str, Any]) -> None:
        webhook.enabled = enabled

    return BulkChange(*(("Enable", "enabled") if enabled else ("Disable", "disabled")), change=change)


class WebhookAdmin(GovernedAdmin):
    """Who is told of changes, and what became of the last ones."""

    form = WebhookForm
    list_display = ("name", "url", "told", "switch", "condition")
    list_filter = (("enabled", BooleanRadioFilter),)
    search_fields = ("name", "url")
    bulk_changes = {"enable": _switch(True), "disable": _switch(False)}
    actions = ("send_test",)
    readonly_fields = ("log",)
    fieldsets = (
        (None, {"fields": ("name", "url", "secret", "enabled")}),
        ("What it is told of", {"fields": ("filter_types", "entity_types")}),
        ("Deliveries", {"fields": ("log",)}),
    )

    def has_test_permission(self, request: HttpRequest) -> bool:
        """As in the API."""
        return may_see_some(request.user, "change", Webhook)

    @admin.action(description="Send a test to selected webhooks", permissions=["test"])
    def send_test(self, request: HttpRequest, queryset: QuerySet) -> None:
        """A test is no change, so this needs no reason and leaves no journal row."""
        for webhook in permitted(request.user, "change", queryset):
            sent = send_test(webhook, by=request.user.get_username())
            fine = sent.status == DeliveryStatus.DELIVERED
            text = "It was delivered." if fine else sent.error
            self.message_user(request, f"{webhook.name}: {text}", messages.INFO if fine else messages.ERROR)

    @admin.display(description="Told of")
    def told(self, webhook: Webhook) -> str:
        kinds = [*webhook.filter_types, *webhook.entity_types]
        return draw_chips(kinds) if kinds else "every change"

    @admin.display(description="Enabled", ordering="enabled")
    def switch(self, webhook: Webhook) -> str:
        return draw_switch(webhook.enabled)

    @admin.display(description="Last delivery")
    def condition(self, webhook: Webhook) -> str:
        last = webhook.deliveries.first()
        return _tell(last) if last is not None else "–"

    @admin.display(description=f"Last {SHOWN}")
    def log(self, webhook: Webhook) -> str:
        lines = ((_tell(each),) for each in webhook.deliveries.all()[:SHOWN]) if webhook.pk else ()
        return format_html_join(mark_safe("<br>"), "{}", lines) or "Nothing was sent yet."


def _tell(delivery: WebhookDelivery) -> str:
    what = f"revision {delivery.revision}" if delivery.revision is not None else "test"
    return format_html(
        "{} UTC · {} · {} · {} · {} ms {}",
        f"{delivery.attempted_at:%Y-%m-%d %H:%M:%S}" if delivery.attempted_at else "–",
        *(what, delivery.change_type, delivery.get_status_display(), delivery.duration_ms),
        f"· attempt {delivery.attempts}: {delivery.error}" if delivery.error else "",
    )
