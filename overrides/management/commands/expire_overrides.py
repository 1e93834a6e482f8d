"""Write down which overrides have ended by the clock, and tell people which end soon."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from audit.commands import GovernedCommand
from overrides.approvals import expire_due
from overrides.notifications import remind_of_end


class Command(GovernedCommand):
    help = (
        "Write down which overrides have ended by the clock. Nothing depends on it: reviews and governance rules look "
        "at the clock themselves; the journal and lists tell it from then on. Whoever approves, and who asked, is told "
        "of those that end within three days. For a timer, once an hour or so."
    )

    def act(self, user: Any, **options: Any) -> None:
        ended = expire_due()
        self.tell(f"{len(ended)} override{'' if len(ended) == 1 else 's'} ended.")
        for override in ended:
            self.tell(f"  {override.pk} {override.rule_name}")
        remind_of_end(now=timezone.now())
