"""One Dramatiq actor per Job. A message carries only the lane; what to do stands in the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app import broker
from app.broker import Bell
from app.core import pipeline
from app.core.deliveries import send
from app.core.outbox import Job, Lane
from app.core.runtime import Runtime

ACTORS: dict[Job, Callable[[Runtime, Lane], Any]] = {
    Job.PLAN: pipeline.plan_in_turn,
    Job.DELIVER: send.deliver_in_turn,
}


def declare(bell: Bell, runtime: Runtime) -> None:
    """Give the bell's broker its actors and queues. The time limit of a job stands above every lease."""
    actors = [(job.value, _answering(bell, runtime, job)) for job in ACTORS]
    broker.declare(bell, actors, [lane.value for lane in Lane], limit_ms=int(send.time_limit_seconds(runtime) * 1000))


def _answering(bell: Bell, runtime: Runtime, job: Job) -> Callable[[str], None]:
    def answer(lane: str) -> None:
        bell.heard(job.value, lane)
        if runtime.stopping.is_set():
            if runtime.settings.redis_url:
                bell.ring(job.value, lane)  # for another process; this one's threads are ending
            return
        ACTORS[job](runtime, Lane(lane))

    return answer
