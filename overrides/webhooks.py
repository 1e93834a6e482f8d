"""How far has each webhook been told, and what is sent to it now? In order, at least once, each at its own pace.

A webhook has a cursor of its own, and a lease while a process sends. What fails is tried again, later and later, and
nothing after it is sent meanwhile; other webhooks do not wait. One that fails too often is switched off.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils import timezone

from audit import encryption
from audit.changes import change_set
from audit.encryption import Unreadable
from audit.errors import Busy, StaleVersion
from audit.leases import Lease, Lost
from audit.models import WatchCursor
from audit.stream import Position, read_position
from audit.watchers import PAGE, WatchedChange, read_changes
from overrides.models import DeliveryStatus, Webhook, WebhookDelivery
from overrides.posting import Outcome, post, sign

logger = logging.getLogger(__name__)
FIRST_DELAY, LONGEST_DELAY = 10, 3600  # seconds before what failed is tried again; doubled each time
MAX_ATTEMPTS = 15  # about six hours; then the webhook is switched off
KEPT = 500  # deliveries in the log of a webhook
GIVEN_UP = f"switched off after {MAX_ATTEMPTS} failed attempts to deliver a change"
Clock = Callable[[], datetime]
Send = Callable[..., Outcome]


def name_cursor(key: int) -> str:
    """The name of a webhook's cursor and lease."""
    return f"webhook:{key}"


def find_delay(attempts: int) -> timedelta:
    """How long to wait after so many failed attempts."""
    return timedelta(seconds=min(FIRST_DELAY * 2 ** (attempts - 1), LONGEST_DELAY))


def list_due(now: datetime) -> list[int]:
    """The enabled webhooks for which there may be something to send now."""
    webhooks = list(Webhook.objects.filter(enabled=True))
    if not webhooks:
        return []
    here = read_position()
    names = [name_cursor(each.pk) for each in webhooks]
    cursors = {each.name: each for each in WatchCursor.objects.filter(name__in=names)}
    waiting = {
        each.webhook_id: each for each in WebhookDelivery.objects.filter(status=DeliveryStatus.PENDING).order_by("id")
    }
    due = []
    for webhook in webhooks:
        cursor = cursors.get(name_cursor(webhook.pk))
        news = cursor is None or cursor.epoch != str(here.epoch) or cursor.revision < here.revision
        if news and not _waits(webhook, waiting.get(webhook.pk), now):
            due.append(webhook.pk)
    return due


def _waits(webhook: Webhook, delivery: WebhookDelivery | None, now: datetime) -> bool:
    """Whether what failed is not to be tried yet; after a change of the webhook it is tried at once."""
    if delivery is None or delivery.next_attempt_at is None or delivery.attempted_at is None:
        return False
    return delivery.next_attempt_at > now and delivery.attempted_at > webhook.updated_at


def deliver_pending(key: int, *, clock: Clock = timezone.now, send: Send = post) -> int:
    """Send a webhook all that it has not been told of, until nothing is left or an attempt fails. Number delivered.

    Nothing is sent while another process sends to it.
    """
    webhook = Webhook.objects.filter(pk=key, enabled=True).first()
    if webhook is None:
        return 0
    _place_cursor(webhook)
    lease = Lease(name_cursor(key), clock=clock)
    if not lease.acquire():
        return 0
    try:
        return _Delivering(webhook, lease, clock, send).run()
    except Lost:
        logger.info("webhook %s goes on in another process", webhook.name)
        return 0
    finally:
        lease.release()


def _place_cursor(webhook: Webhook) -> None:
    """A new webhook is told of what comes after it, also if no server ran when it was made."""
    if WatchCursor.objects.filter(name=name_cursor(webhook.pk)).exists():
        return
    rows = webhook.history.model.objects.filter(id=webhook.pk).order_by("history_id")
    first = rows.values_list("version", flat=True).first() or webhook.version
    cursor = WatchCursor(name=name_cursor(webhook.pk), epoch=read_position().epoch, revision=first)
    WatchCursor.objects.bulk_create([cursor], ignore_conflicts=True)


class _Delivering:
    """One run of one webhook, under its lease."""

    def __init__(self, webhook: Webhook, lease: Lease, clock: Clock, send: Send) -> None:
        self._webhook, self._lease, self._clock, self._send = webhook, lease, clock, send
        self._delivered = 0

    def run(self) -> int:
        """Number of changes that were delivered."""
        while self._go_on():
            pass
        prune(self._webhook)
        return self._delivered

    def _go_on(self) -> bool:
        """Send a page of changes; whether there may be another one."""
        here, place = read_position(), self._lease.read_place()
        if place.epoch != here.epoch:
            # What a restored backup holds are no changes.
            self._lease.store_place(here)
            return False
        waiting = self._webhook.deliveries.filter(status=DeliveryStatus.PENDING).first()
        if place.revision >= here.revision or _waits(self._webhook, waiting, self._clock()):
            return False
        changes = read_changes(place.revision, here.revision, frozenset(self._webhook.filter_types))
        for change in changes:
            if self._concerns(change) and not self._deliver(change):
                return False
            self._lease.store_place(Position(place.epoch, change.revision))
        if len(changes) < PAGE:
            self._lease.store_place(here)
        return True

    def _concerns(self, change: WatchedChange) -> bool:
        return not self._webhook.entity_types or change.entity_type in self._webhook.entity_types

    def _deliver(self, change: WatchedChange) -> bool:
        """Whether the receiver has taken it. The webhook is looked at again: it may have been changed meanwhile."""
        same = Webhook.objects.filter(pk=self._webhook.pk, enabled=True, version=self._webhook.version)
        if not same.exists():
            return False
        self._lease.renew()
        pending = self._webhook.deliveries.filter(status=DeliveryStatus.PENDING)
        delivery = pending.filter(revision=change.revision).first() or WebhookDelivery(
            webhook=self._webhook,
            revision=change.revision,
            change_type=change.change_type,
            created_at=self._clock(),
        )
        outcome = attempt(
            *(self._webhook, delivery, describe(change), f"{change.revision}-{self._webhook.pk}"),
            now=self._clock(),
            send=self._send,
        )
        if outcome.delivered:
            self._delivered += 1
            return True
        self._lease.note_failure(delivery.attempts, outcome.error)
        if delivery.attempts >= MAX_ATTEMPTS:
            give_up(self._webhook, delivery)
        return False


def describe(change: WatchedChange) -> dict[str, Any]:
    """What a receiver gets: the event as the WebSocket tells it, why it was made, and the masked documents."""
    return {
        "type": "change",
        "revision": change.revision,
        "change_type": change.change_type,
        "entity_type": change.entity_type,
        "entity_id": change.entity_id,
        "entity_name": change.entity_name,
        "changed_by": change.changed_by,
        "change_reason": change.change_reason,
        "created_at": change.created_at.isoformat(),
        "batch": str(change.batch),
        "old": encryption.hide(change.old),
        "new": encryption.hide(change.new),
    }


def attempt(
    webhook: Webhook, delivery: WebhookDelivery, event: Any, mark: str, *, now: datetime, send: Send = post
) -> Outcome:
    """Send `event` once, and keep in `delivery` what became of it. `mark` tells the receiver repeats."""
    outcome = _send_signed(webhook, delivery.change_type, event, mark, now, send)
    delivery.attempts += 1
    delivery.status = DeliveryStatus.DELIVERED if outcome.delivered else DeliveryStatus.PENDING
    delivery.response_code, delivery.error = outcome.code, outcome.error[:200]
    delivery.duration_ms = round(outcome.seconds * 1000)
    delivery.attempted_at = now
    delivery.next_attempt_at = None if outcome.delivered else now + find_delay(delivery.attempts)
    delivery.save()
    if not outcome.delivered:
        logger.warning("webhook %s: attempt %s of %s failed", webhook.name, delivery.attempts, mark)
    return outcome


def _send_signed(webhook: Webhook, kind: str, event: Any, mark: str, now: datetime, send: Send) -> Outcome:
    try:
        secret = webhook.reveal_secret()
    except Unreadable:
        return Outcome(None, 0.0, "Its secret cannot be decrypted: set it again, or bring the key back.")
    body = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "code-review-governance",
        "X-Governance-Event": kind,
        "X-Governance-Delivery": mark,
        "X-Governance-Signature": sign(secret, body, int(now.timestamp())),
    }
    return send(webhook.url, body, headers, private=settings.WEBHOOK_PRIVATE, http_allowed=settings.WEBHOOK_HTTP)


def give_up(webhook: Webhook, delivery: WebhookDelivery) -> None:
    """Switch `webhook` off, by the system, in the journal. If that is refused, it is tried after the next failure."""
    try:
        with change_set(reason=f"{GIVEN_UP} (revision {delivery.revision})"):
            stored = Webhook.objects.get(pk=webhook.pk)
            stored.enabled = False
            stored.save()
    except (ValidationError, Busy, StaleVersion) as error:
        logger.error("webhook %s could not be switched off: %s", webhook.name, type(error).__name__)
        return
    logger.error("webhook %s was %s", webhook.name, GIVEN_UP)
    delivery.status, delivery.next_attempt_at = DeliveryStatus.FAILED, None
    delivery.save()


def send_test(webhook: Webhook, *, by: str, clock: Clock = timezone.now, send: Send = post) -> WebhookDelivery:
    """Send a test event now, once, also to a webhook that is switched off; its row in the log."""
    now = clock()
    delivery = WebhookDelivery(webhook=webhook, change_type="test", created_at=now)
    event = {"type": "test", "webhook": webhook.name, "sent_by": by, "created_at": now.isoformat()}
    outcome = attempt(webhook, delivery, event, f"test-{uuid.uuid4()}", now=now, send=send)
    if not outcome.delivered:
        delivery.status, delivery.next_attempt_at = DeliveryStatus.FAILED, None
        delivery.save()
    prune(webhook)
    return delivery


def prune(webhook: Webhook) -> None:
    """Keep the newest rows of the log."""
    oldest = webhook.deliveries.order_by("-id").values_list("id", flat=True)[KEPT : KEPT + 1]
    for key in oldest:
        webhook.deliveries.filter(id__lte=key).delete()
