"""How is a notification mailed? By a worker, so that nobody waits for a mail server."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.template.loader import render_to_string
from django.urls import reverse
from django_tasks import task

from audit.models import ConfigurationAuditLog
from audit.permissions import VIEW, may
from overrides.models import Notification

logger = logging.getLogger(__name__)


@task()
def send_mails(keys: Sequence[int]) -> int:
    """Mail these notifications to whoever has an address. A mail says who, what and where: never a configuration.

    Number of mails sent. What a mail server refuses is logged, without the address of anybody.
    """
    told = Notification.objects.filter(pk__in=keys).exclude(user__email="").select_related("user", "override")
    mails = [write_mail(each) for each in told]
    if not mails:
        return 0
    try:
        return get_connection().send_messages(mails) or 0
    except OSError as error:  # smtplib's errors among them
        logger.warning("%s notifications could not be mailed: %s", len(mails), type(error).__name__)
        return 0


def find_page(notification: Notification) -> str:
    """The page in the admin of what a notification is about; empty if its reader may not open it."""
    if notification.override_id is not None:
        return reverse("admin:overrides_governanceruleoverride_change", args=[notification.override_id])
    if not may(notification.user, VIEW, ConfigurationAuditLog):
        return ""
    return reverse("admin:audit_configurationauditlog_change", args=[notification.revision])


def write_mail(notification: Notification) -> EmailMessage:
    """The mail of one notification."""
    page = find_page(notification)
    link = f"{settings.PUBLIC_URL}{page}" if settings.PUBLIC_URL and page else ""
    context = {"notification": notification, "link": link}
    body = render_to_string("mail/notification.txt", context)
    subject = " ".join(f"[governance] {notification.text}".split())[:200]
    return EmailMessage(subject, body, to=[notification.user.email])
