"""What is worse than it should be, while the server still serves? Each part says so itself, without secrets."""

from __future__ import annotations

from collections.abc import Callable

State = Callable[[], str]
_states: dict[str, State] = {}
_noted: dict[str, str] = {}


def register_state(name: str, state: State) -> None:
    """Ask `state` at each probe: a sentence if something is worse than it should be, else nothing. It never raises."""
    _states[name] = state


def note_state(name: str, detail: str) -> None:
    """What the running work of a part has shown of it: a sentence if it is worse than it should be, "" if not."""
    _noted[name] = detail


def find_degraded() -> list[dict[str, str]]:
    """The parts that are not as they should be, by name."""
    answers = {**_noted, **{name: state() for name, state in _states.items()}}
    return [{"name": name, "detail": detail} for name, detail in sorted(answers.items()) if detail]
