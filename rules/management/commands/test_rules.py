"""Run the examples of the rules: do they find what they should, and nothing else?"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError

from audit import encryption
from audit.commands import GovernedCommand
from audit.exchange import list_errors
from audit.permissions import permitted
from rules.models import AnalysisRule
from rules.validation import check_content

FAILED = 1


class Command(GovernedCommand):
    help = (
        "Run the examples of every rule, enabled or not, by the analyzers that are installed now. Says which fail, and "
        "which rules have none. Exit codes: 0 all pass, 1 some fail, 2 wrong use."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("names", nargs="*", metavar="NAME", help="rules to test (default: all)")

    def act(self, user: Any, **options: Any) -> None:
        rules = permitted(user, "view", AnalysisRule.objects.order_by("name"))
        if options["names"]:
            rules = rules.filter(name__in=options["names"])
            unknown = set(options["names"]) - set(rules.values_list("name", flat=True))
            if unknown:
                self.tell(f"There is no rule {', '.join(sorted(unknown))}.")
                sys.exit(2)
        passed, bare, failed = 0, [], 0
        for rule in rules:
            problems = find_problems(rule)
            failed += bool(problems)
            passed += not problems
            for pointer, message in problems:
                self.stdout.write(f"{rule.name}{pointer}: {message}")
            if not any(rule.examples.values()):
                bare.append(rule.name)
        self.tell(f"{passed} passed, {failed} failed.")
        if bare:
            self.tell(f"Without examples: {', '.join(bare)}.")
        if failed:
            sys.exit(FAILED)


def find_problems(rule: AnalysisRule) -> list[tuple[str, str]]:
    """What is wrong with a stored rule today: pointer below the rule, and a sentence."""
    try:
        clear, _ = encryption.reveal_readable(rule.configuration)
        check_content(rule.spec(clear), examples=rule.examples, enabled=True)
    except ValidationError as error:
        return list_errors(error)
    return []
