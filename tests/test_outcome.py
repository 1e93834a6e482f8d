"""What passes between processes, or comes from a cache, is believed only if it makes sense."""

from __future__ import annotations

import copy
import json
import random
from datetime import date
from typing import Any

import pytest

from plugins.contract import Finding
from reviews.outcome import Failure, Hashes, Outcome, decode, encode
from reviews.suppressions import Directive

FULL = Outcome(
    findings=[
        Finding("rule", "a.py", 1, 2, 3, 4, "message", "snippet", "S1", True),
        Finding("rule", "a.py", 1, 1, 1, 1, ""),
    ],
    directives=[Directive(1, 2, 3, ("rule", "other"), "why", date(2030, 1, 2), "", 2, True, "text")],
    hashes={(1, 3): Hashes("a", "b", "c:1"), (1, 1): Hashes("d", "e", "")},
    lines={1: "one", 2: "t\u00e9\udc80o"},
    failures=[Failure("plugin", None, "a.py", "said"), Failure("plugin", "rule", None, "")],
    failed=frozenset({"rule"}),
)


def transfer(outcome: Outcome) -> Any:
    return json.loads(json.dumps(encode(outcome)))


@pytest.mark.parametrize("outcome", [FULL, Outcome(), Outcome(failed=frozenset({"rule"}))])
def test_an_outcome_comes_back_as_it_was(outcome: Outcome) -> None:
    assert decode("a.py", transfer(outcome), {"rule"}) == outcome


def test_findings_of_other_rules_are_refused() -> None:
    with pytest.raises(ValueError, match="a finding of the rule 'rule'"):
        decode("a.py", transfer(FULL), {"other"})


@pytest.mark.parametrize("seed", range(20))
def test_whatever_else_is_refused_or_makes_sense(seed: int) -> None:
    chance = random.Random(seed)
    junk = [None, True, 0, -1, 1.5, 10**30, "", "text", [], [[]], {}, {"a": 1}]
    for _ in range(200):
        plain = transfer(FULL)
        parent = plain
        while (inner := [each for each in parent if isinstance(each, list) and each]) and chance.random() < 0.8:
            parent = chance.choice(inner)
        parent[chance.randrange(len(parent))] = copy.deepcopy(chance.choice(junk))
        try:
            outcome = decode("a.py", plain, {"rule"})
        except ValueError:
            continue
        assert transfer(outcome) is not None
        assert all(type(each.line) is int for each in outcome.directives)
