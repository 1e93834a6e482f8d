"""What did a governed object look like after each change? django-simple-history, told who acts by the change set."""

from __future__ import annotations

from typing import Any

from django.db import models
from simple_history.models import HistoricalRecords

from audit.changes import current_change_set, current_origin


class GovernedHistory(HistoricalRecords):
    """History rows that name the acting user and the reason of the running change set, whichever the door."""

    def __init__(self, **kwargs: Any) -> None:
        # The account may be deleted later: the row keeps its key, and the journal the name.
        kwargs.setdefault("history_user_id_field", models.BigIntegerField(null=True))
        kwargs.setdefault("history_change_reason_field", models.TextField(null=True))
        super().__init__(**kwargs)

    def get_history_user(self, instance: models.Model) -> Any:
        return current_origin().acting_user()

    def get_change_reason_for_object(self, instance: models.Model, history_type: str, using: str | None) -> str | None:
        opened = current_change_set()
        return (opened.reason if opened else "") or None
