"""How does a process that starts take what another one has read? Through the shared cache, as compressed JSON.

One entry for each history and shape of release, so that what is kept is bounded. It may be some revisions old: who
takes it goes on from there by the journal. Without a shared cache, or with a broken one, the tables are read.
"""

from __future__ import annotations

import json
import logging
import threading
import zlib
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.utils.crypto import constant_time_compare, salted_hmac

from audit.documents import digest
from overrides.stored import PERSONA_FIELDS, RULE_FIELDS, Assignment, Mark, Override, Rule, Stored, spell

logger = logging.getLogger(__name__)
KEPT_FOR = 24 * 3600  # seconds
EVERY = 200  # revisions after which a newer one is shared
SIGNATURE = 32  # bytes
MAX_SIZE = 64 * 1024 * 1024  # bytes, unpacked: more is not what this server has stored
# Releases that share other fields must not read each other's.
SHAPE = digest([RULE_FIELDS, PERSONA_FIELDS, Rule._fields, Assignment._fields, Override._fields, 1])[:8]

_shared_last: Mark | None = None


def key_of(epoch: str) -> str:
    """The key in the cache."""
    return f"configuration:{SHAPE}:{epoch}"


def fetch(mark: Mark) -> Stored | None:
    """What another process has shared of the history of `mark`, not newer than that; None if there is nothing."""
    if not settings.REDIS_URL:
        return None
    try:
        packed = cache.get(key_of(mark.epoch))
    except Exception as error:
        # The cache is an optimisation: the database has everything.
        logger.warning("shared cache not reachable: %s", type(error).__name__)
        return None
    if packed is None:
        return None
    try:
        stored = unpack(packed)
    except (ValueError, TypeError, KeyError, AttributeError, zlib.error):
        logger.warning("what the shared cache holds is no configuration; it is read anew")
        return None
    return stored if stored.mark.epoch == mark.epoch and stored.mark.revision <= mark.revision else None


def share(stored: Stored) -> None:
    """Let processes that start take `stored`."""
    try:
        cache.set(key_of(stored.mark.epoch), pack(stored), KEPT_FOR)
    except Exception as error:
        logger.warning("shared cache not reachable: %s", type(error).__name__)


def share_later(stored: Stored) -> threading.Thread | None:
    """`share`, beside what goes on: packing takes longer than the reader who is waiting should."""
    global _shared_last
    if not settings.REDIS_URL:
        return None
    _shared_last = stored.mark
    thread = threading.Thread(target=share, args=(stored,), name="share configuration")
    thread.start()
    return thread


def share_at_times(stored: Stored) -> None:
    """Share `stored` if what this process last shared is many revisions old."""
    last = _shared_last
    if last is None or last.epoch != stored.mark.epoch or stored.mark.revision - last.revision >= EVERY:
        share_later(stored)


def pack(stored: Stored) -> bytes:
    """`stored` as compressed JSON. Rules stay as they are spelt, one a line."""
    head: dict[str, Any] = {
        "mark": stored.mark,
        "changed_at": stored.changed_at.isoformat() if stored.changed_at else None,
        "rules": [[key, rule.name, rule.enabled] for key, rule in stored.rules.items()],
        "assignments": [[key, *item] for key, item in stored.assignments.items()],
        "plugins": list(stored.plugins.values()),
        "personas": list(stored.personas.values()),
        "overrides": [
            [key, *item._replace(expires_at=item.expires_at.isoformat())] for key, item in stored.overrides.items()
        ],
    }
    # JSON holds no line feeds but between values, and a database may put those: they become spaces.
    lines = [spell(head), *(rule.spelt.replace(b"\n", b" ") for rule in stored.rules.values())]
    packed = zlib.compress(b"\n".join(lines), level=1)
    return _sign(packed) + packed


def unpack(packed: bytes) -> Stored:
    """What `pack` made. Raises `ValueError` and its like for anything else: Redis may be written by others."""
    signature, packed = packed[:SIGNATURE], packed[SIGNATURE:]
    if not constant_time_compare(signature, _sign(packed)):
        raise ValueError("not signed by this installation")
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(packed, MAX_SIZE)
    if unpacking.unconsumed_tail or not unpacking.eof:
        raise ValueError("too large, or cut off")
    line, *lines = text.split(b"\n")
    head = json.loads(line)
    rules = {key: Rule(name, enabled, spelt) for (key, name, enabled), spelt in zip(head["rules"], lines, strict=True)}
    assignments = {key: Assignment(*fields) for key, *fields in head["assignments"]}
    speakers: dict[int, tuple[int, ...]] = {}
    for key, item in assignments.items():
        speakers[item.rule_id] = (*speakers.get(item.rule_id, ()), key)
    return Stored(
        mark=Mark(*head["mark"]),
        changed_at=datetime.fromisoformat(head["changed_at"]) if head["changed_at"] else None,
        rules=rules,
        ids={rule.name: key for key, rule in rules.items()},
        assignments=assignments,
        speakers=speakers,
        plugins={item["name"]: item for item in head["plugins"]},
        personas={item["name"]: item for item in head["personas"]},
        overrides={key: _read_override(fields) for key, *fields in head["overrides"]},
    )


def _sign(packed: bytes) -> bytes:
    return salted_hmac("overrides.sharing", packed, algorithm="sha256").digest()


def _read_override(fields: list[Any]) -> Override:
    item = Override(*fields)
    return item._replace(expires_at=datetime.fromisoformat(str(item.expires_at)))
