"""Does a document satisfy the official schema of SARIF 2.1.0?"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft4Validator

SCHEMA = Path(__file__).parent / "fixtures" / "sarif-schema-2.1.0.json"


@cache
def _validator() -> Draft4Validator:
    return Draft4Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def validate(document: dict[str, Any]) -> None:
    """Fail with the first thing that is wrong."""
    problems = [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in _validator().iter_errors(document)
    ]
    assert problems == []
