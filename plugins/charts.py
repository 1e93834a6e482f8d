"""How did the last runs of a plugin go, at a glance? A bar for each run's time, drawn as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from plugins.models import PluginRun

BARS = 60
"""Runs shown."""
_STEP, _WIDTH, _HEIGHT, _LEAST = 8, 6, 48, 2


def draw_runs(runs: Sequence[PluginRun]) -> SafeString:
    """The runs, newest first, as bars from left to right, the newest last; those with failures in another colour."""
    shown = list(reversed(runs[:BARS]))
    longest = max((run.seconds for run in shown), default=0) or 1
    bars = format_html_join("", _BAR, (_measure(index, run, longest) for index, run in enumerate(shown)))
    failed = sum(bool(run.failures) for run in shown)
    label = (
        f"Seconds of the last {len(shown)} runs, the newest right; {failed} with failures; the longest {longest:.2f} s"
    )
    return format_html(
        '<svg class="runs" role="img" aria-label="{}" width="{}" height="{}" viewBox="0 0 {} {}">{}</svg>'
        '<span class="runs-scale quiet">up to {} s</span>',
        *(label, len(shown) * _STEP, _HEIGHT, len(shown) * _STEP, _HEIGHT, bars, f"{longest:.2f}"),
    )


_BAR = '<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'


def _measure(index: int, run: PluginRun, longest: float) -> tuple[object, ...]:
    height = max(_LEAST, round(_HEIGHT * run.seconds / longest))
    kind = "run-failed" if run.failures else "run"
    title = (
        f"{run.ran_at:%Y-%m-%d %H:%M} UTC: {run.seconds:.2f} s, files {run.files}, findings {run.findings}, "
        f"failures {run.failures}"
    )
    return kind, index * _STEP, _HEIGHT - height, _WIDTH, height, title
