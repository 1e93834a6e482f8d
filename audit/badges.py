"""How does a state look at a glance? Small labels for lists; the colours are in `static/governance/admin.css`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString


def draw_switch(on: bool) -> SafeString:
    """A switch that shows a state and cannot be pressed."""
    state, word = ("on", "enabled") if on else ("off", "disabled")
    return format_html(
        '<span class="switch switch-{}" role="img" aria-label="{}" title="{}"></span>', state, word, word
    )


def draw_moment(moment: datetime | None) -> SafeString | str:
    """A moment in UTC, to the minute, so that a column of them can be compared at a glance."""
    if moment is None:
        return "–"
    shown = moment.astimezone(UTC)
    return format_html('<time class="nowrap" datetime="{}">{}</time>', shown.isoformat(), f"{shown:%Y-%m-%d %H:%M}")


def draw_chip(word: str, kind: str = "") -> SafeString:
    """A word on a coloured ground; `kind` names the colour, by default the word itself."""
    return format_html('<span class="chip chip-{}">{}</span>', kind or word, word)


def draw_chips(words: Iterable[str], kind: str = "tag") -> SafeString:
    """Several words as labels."""
    return format_html_join(" ", '<span class="chip chip-{}">{}</span>', ((kind, word) for word in words))
