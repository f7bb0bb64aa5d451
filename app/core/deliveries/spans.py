"""Spans of the work in the traces of those who asked for it; nothing at all unless spans are recorded.

All are children of the request that posted the event: `plan` for each page of planning, `deliver` for each batch,
`send <channel>` for each try, whose id is the one that went out with the webhook.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from app import tracing
from app.core.deliveries.claims import Claim
from app.core.deliveries.event_claims import ClaimedEvent
from app.tracing import Attributes

if TYPE_CHECKING:
    from app.core.deliveries.outcome import Tried

T = TypeVar("T", Claim, ClaimedEvent)
_MOST_IDS = 20  # in an attribute


def planned(events: Sequence[ClaimedEvent], began: float, deliveries: int) -> None:
    """A page of each of these events was planned together. `began`: unix seconds."""
    if not tracing.is_on():
        return
    ended = time.time()
    for traceparent, some in _by_trace(events):
        attributes: Attributes = {
            "tidings.events": _joined(event.id for event in some),
            "tidings.events.count": len(events),
            "tidings.deliveries.count": deliveries,
        }
        tracing.record("plan", traceparent, began, ended, attributes)


def delivered(claims: Sequence[Claim], began: float) -> None:
    """A batch was sent, as far as it went."""
    if not tracing.is_on():
        return
    ended = time.time()
    for traceparent, some in _by_trace(claims):
        attributes: Attributes = {
            "tidings.deliveries": _joined(claim.id for claim in some),
            "tidings.channel": claims[0].channel,
            "tidings.lane": claims[0].lane,
            "messaging.batch.message_count": len(claims),
        }
        tracing.record("deliver", traceparent, began, ended, attributes)


def tried(results: Sequence[Tried], verdicts: Sequence[Mapping[str, Any]]) -> None:
    """What came of some tries is written: one verdict for each."""
    if not tracing.is_on():
        return
    for item, verdict in zip(results, verdicts, strict=True):
        claim = item.claim
        own = tracing.of_attempt(claim.traceparent, claim.attempt_id)
        if claim.traceparent is None or item.provider is None or item.result is None:
            continue
        attributes: Attributes = {
            "tidings.delivery": claim.id,
            "tidings.event": claim.event_id or "",
            "tidings.attempt": claim.attempt,
            "tidings.provider": item.provider,
            "tidings.outcome": verdict["outcome"],
        }
        fault = verdict.get("code") if isinstance(item.result, Exception) else None
        ended = item.began_at + item.duration_ms / 1000
        tracing.record(
            f"send {claim.channel}", claim.traceparent, item.began_at, ended, attributes, own=own, fault=fault
        )


def _by_trace(found: Iterable[T]) -> Iterable[tuple[str, list[T]]]:
    groups: dict[str, list[T]] = defaultdict(list)
    for one in found:
        if one.traceparent:
            groups[one.traceparent].append(one)
    return groups.items()


def _joined(ids: Iterable[str]) -> str:
    found = list(ids)
    return ",".join(found[:_MOST_IDS]) + ("" if len(found) <= _MOST_IDS else f",… ({len(found)})")
