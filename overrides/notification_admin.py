"""What was I told, in the admin? One's own notifications, newest first."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path

from audit.models import ConfigurationAuditLog
from audit.permissions import VIEW, may
from overrides.models import Notification
from overrides.notifications import mark_read

SHOWN = 100


class NotificationAdmin:
    """Mixin of the admin of overrides: a page with one's own notifications."""

    def get_urls(self) -> list[Any]:
        own = path(
            "notifications/", self.admin_site.admin_view(self.notifications_view), name="overrides_notifications"
        )
        return [own, *super().get_urls()]

    def notifications_view(self, request: HttpRequest) -> HttpResponse:
        """Show them; a POST notes that all, or the one it names, were read."""
        if request.method == "POST":
            key = request.POST.get("id", "")
            mark_read(user=request.user, keys=[int(key)] if key.isdecimal() and len(key) < 19 else None)
            return HttpResponseRedirect(request.path)
        told = Notification.objects.filter(user=request.user).select_related("override")
        context = {
            **self.admin_site.each_context(request),
            "title": "Notifications",
            "subtitle": None,
            "opts": self.opts,
            "media": self.media,
            "told": list(told[:SHOWN]),
            "sees_journal": may(request.user, VIEW, ConfigurationAuditLog),
            "unread": told.filter(read_at=None).count(),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/overrides/notifications.html", context)
