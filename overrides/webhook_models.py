"""Which servers are told of changes, and what became of it? `Webhook` is governed, its deliveries are a log."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from audit import encryption
from audit.changes import current_origin
from audit.encryption import Unreadable, is_envelope, is_shown
from audit.governed import GovernedModel
from audit.history import GovernedHistory
from audit.keys import WrongKeys
from audit.models import ConfigurationAuditLog
from audit.permissions import VIEW, may
from overrides.posting import Refused, check_literal, read_url

check_webhook_name = RegexValidator(
    r"^[a-z0-9][a-z0-9_-]*\Z", "A name has lower-case letters, digits, hyphens and underscores."
)
MIN_SECRET, MAX_SECRET = 16, 200  # characters
MAX_KINDS = 50


class Webhook(GovernedModel):
    """A server that is told of changes, in order, by signed requests."""

    entity_type = "webhook"
    noun = "webhook"

    name = models.CharField(
        max_length=50, unique=True, validators=[check_webhook_name], help_text="How it is called; fixed."
    )
    url = models.CharField(max_length=500, help_text="Where changes are posted to; https.")
    secret = models.JSONField(help_text="What requests are signed with: at least 16 characters. It is never shown.")
    filter_types = models.JSONField(
        default=list, blank=True, help_text="Kinds of changes, such as rule_updated; an empty list means any."
    )
    entity_types = models.JSONField(
        default=list, blank=True, help_text="Kinds of objects, such as analysis_rule; an empty list means any."
    )
    enabled = models.BooleanField(
        default=True, help_text="Whether changes are sent. Switched on again, it goes on where it stopped."
    )

    history = GovernedHistory(table_name="webhooks_history")

    class Meta(GovernedModel.Meta):
        app_label = "overrides"
        db_table = "webhooks"
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(name=""), name="webhook_has_a_name", violation_error_message="A webhook has a name."
            )
        ]

    @property
    def entity_id(self) -> str:
        return self.name

    def reveal_secret(self) -> str:
        """The secret in clear. Raises `encryption.Unreadable`."""
        return str(encryption.unseal(self.secret))

    def keep_hidden(self, stored: Webhook) -> None:
        """A secret that is not said, or said as it is shown, is the stored one."""
        if self.secret in (None, "") or is_shown(self.secret):
            self.secret = stored.secret

    def clean(self) -> None:
        super().clean()
        _check_reader()
        try:
            parts = read_url(self.url, http_allowed=settings.WEBHOOK_HTTP)
            check_literal(str(parts.hostname), private=settings.WEBHOOK_PRIVATE)
        except Refused as refused:
            raise ValidationError({"url": str(refused)}) from refused
        for name in ("filter_types", "entity_types"):
            _check_kinds(name, getattr(self, name))
        self.secret = self._seal_secret()

    def clean_fields(self, exclude: Any = None) -> None:
        """A secret that is left out is judged by `clean`, which knows the stored one."""
        super().clean_fields(exclude={*(exclude or ()), "secret"})

    def _seal_secret(self) -> dict[str, str]:
        stored = type(self)._base_manager.filter(pk=self.pk).values_list("secret", flat=True).first()
        if is_envelope(self.secret):
            return self.secret
        if self.secret in (None, "") or is_shown(self.secret):
            if stored is None:
                raise ValidationError({"secret": "A webhook has a secret, which signs its requests: send one."})
            return stored
        if not isinstance(self.secret, str) or not MIN_SECRET <= len(self.secret) <= MAX_SECRET:
            raise ValidationError({"secret": f"A secret is a text of {MIN_SECRET} to {MAX_SECRET} characters."})
        if stored is not None and _holds(stored, self.secret):
            return stored
        try:
            return encryption.seal(self.secret)
        except WrongKeys as error:
            raise ValidationError({"secret": f"Secrets cannot be encrypted. {error}"}) from error


def _holds(envelope: Any, secret: str) -> bool:
    try:
        return bool(encryption.unseal(envelope) == secret)
    except Unreadable:
        return False


def _check_reader() -> None:
    """A webhook is told of everything: only who may read all of the journal sets one up."""
    user = current_origin().acting_user()
    if user is not None and not may(user, VIEW, ConfigurationAuditLog):
        raise ValidationError("A webhook is told of every change: it takes the right to read the journal.")


def _check_kinds(name: str, kinds: Any) -> None:
    if not isinstance(kinds, list) or not all(isinstance(kind, str) and 0 < len(kind) <= 50 for kind in kinds):
        raise ValidationError({name: "This must be a list of names such as rule_updated or analysis_rule."})
    if len(kinds) > MAX_KINDS:
        raise ValidationError({name: f"At most {MAX_KINDS} names, these are {len(kinds)}."})


class DeliveryStatus(models.TextChoices):
    """What became of a delivery."""

    PENDING = "pending", "To be tried again"
    DELIVERED = "delivered", "Delivered"
    FAILED = "failed", "Given up"


class WebhookDelivery(models.Model):
    """One change on its way to one webhook. A log for people: what is sent next is told by the webhook's cursor."""

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    revision = models.BigIntegerField(null=True, help_text="Of the change; null for a test.")
    change_type = models.CharField(max_length=50)
    status = models.CharField(max_length=20, choices=DeliveryStatus.choices, default=DeliveryStatus.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    response_code = models.PositiveSmallIntegerField(null=True, help_text="HTTP status of the last attempt.")
    duration_ms = models.PositiveIntegerField(default=0, help_text="Of the last attempt.")
    error = models.CharField(max_length=200, blank=True, help_text="What was wrong with the last attempt.")
    created_at = models.DateTimeField()
    attempted_at = models.DateTimeField(null=True)
    next_attempt_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "overrides"
        db_table = "webhook_deliveries"
        ordering = ["-id"]
        default_permissions = ()
        indexes = [models.Index(fields=["webhook", "-id"], name="webhook_deliveries_newest")]

    def __str__(self) -> str:
        return f"{self.change_type} {self.revision or ''} {self.status}".replace("  ", " ")
