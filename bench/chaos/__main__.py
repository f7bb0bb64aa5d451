"""`python -m bench.chaos`: break everything, then account for every message. Exits 1 when a line is off."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import psycopg

from bench import stats
from bench.chaos import evidence, expected, faults, history, poison, report, sabotage, story, verdict
from bench.chaos.clients import Api, Clients
from bench.chaos.posts import Posts, prepare
from bench.chaos.pulse import Pulse
from bench.chaos.world import World

_SETTLED_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """How a run goes. `every`: seconds between faults. `first`: kinds to begin with. `once`: every kind once.

    `patience`: seconds for everything to come to its end after the last fault.
    """

    seconds: float = 600.0
    rate: float = 8.0
    every: float = 4.0
    patience: float = 240.0
    kinds: tuple[str, ...] = faults.KINDS
    first: tuple[str, ...] = ()
    once: bool = False


FULL = Plan()
# What takes a lease or two to heal comes first, so that the end is near when the faults are over.
SLOW_TO_HEAL = (
    *("row that hangs", "row that fails late", "row that kills"),
    *("PostgreSQL immediate", "all web killed", "PostgreSQL fast", "web process killed"),
)
SHORT = Plan(seconds=70.0, every=1.6, patience=150.0, first=SLOW_TO_HEAL, once=True)
# A planted fault needs only what brings it to light.
SABOTAGED = {
    "claim": Plan(seconds=8.0, rate=20.0, every=1.0, patience=15.0, kinds=("rings doubled, spurious", "receiver slow")),
    "sweep": Plan(seconds=8.0, every=1.0, patience=15.0, kinds=("receiver hung", "worker killed")),
    "fencing": Plan(seconds=6.0, every=2.0, patience=90.0, kinds=("row that fails late",)),
}


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, help="how long faults go on (default 10)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of faults and posts (default 1)")
    parser.add_argument("--rate", type=float, help=f"posts a second (default {FULL.rate:g})")
    parser.add_argument("--short", action="store_true", help="every fault once, in less than two minutes")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave there what all processes noted and logged")
    parser.add_argument("--sabotage", choices=tuple(sabotage.PLANTED), help="plant a fault: the run must fail")
    chosen = parser.parse_args()
    plan = SABOTAGED[chosen.sabotage] if chosen.sabotage else SHORT if chosen.short else FULL
    if chosen.minutes:
        plan = replace(plan, seconds=chosen.minutes * 60)
    if chosen.rate:
        plan = replace(plan, rate=chosen.rate)
    stats.head(f"chaos, seed {chosen.seed}, {plan.seconds:g} s of faults")
    return 0 if run(plan, chosen.seed, chosen.sabotage or "none", chosen.keep).good else 1


def run(plan: Plan, seed: int, planted: str = "none", keep: Path | None = None) -> verdict.Verdict:
    """One run; prints its table. `keep`: a folder for what all processes noted and logged."""
    with World(planted, keep) as world:
        history.install(world.admin_url)
        pulse = Pulse(world.admin_url)
        pulse.start()
        webhooks = f"http://127.0.0.1:{world.receiver_ports['http']}"
        posts = Posts(seed, prepare(Api(world.port).need, webhooks), webhooks)
        clients = Clients(world.port, posts, plan.rate)
        breaking = faults.Faults(world, posts, clients, seed)
        clients.start()
        breaking.run(plan.seconds, plan.every, _kinds(plan, seed))
        ended = time.monotonic()
        clients.stop(plan.patience)
        _wait_for_quiet(world, breaking, ended + plan.patience)
        print(f"quiet {time.monotonic() - ended:.0f} s after the last fault\n", flush=True)
        pulse.stop()
        return _judge(world, posts, breaking, pulse, keep)


def _judge(world: World, posts: Posts, breaking: faults.Faults, pulse: Pulse, keep: Path | None) -> verdict.Verdict:
    found = history.read(world.admin_url)
    seen = evidence.collect(world.folder, breaking.done, pulse)
    planning = expected.compare(posts.made, found)
    judged = verdict.judge(planning, found, seen)
    report.show(breaking.done, planning, found, seen, judged)
    if keep:
        story.write(keep / "stories", judged, breaking.done, found, seen)
    return judged


def _kinds(plan: Plan, seed: int) -> Iterator[str]:
    rest = tuple(kind for kind in plan.kinds if kind not in plan.first)
    shuffled = faults.rounds(seed, rest)
    return chain(plan.first, islice(shuffled, len(rest)) if plan.once else shuffled)


def _wait_for_quiet(world: World, breaking: faults.Faults, end: float) -> None:
    """Until nothing is left to be done, not even by a try that fails late; or until the patience has ended."""
    calm_since = time.monotonic()
    while time.monotonic() < end and time.monotonic() - calm_since < _SETTLED_SECONDS:
        time.sleep(0.2)
        world.keep_running()
        try:
            busy = history.undone(world.admin_url) > 0
        except psycopg.OperationalError:
            busy = True
        if busy or _late_tries(world, breaking):
            calm_since = time.monotonic()


def _late_tries(world: World, breaking: faults.Faults) -> bool:
    """Whether a try that is to fail late still goes on."""
    if not any(fault.kind == "row that fails late" for fault in breaking.done):
        return False
    seen = evidence.collect(world.folder, breaking.done)
    late = history.ids_of(world.admin_url, poison.LATE)
    tries = [one for found in late for one in seen.tries.get(found, ()) if one.attempt == 1]
    return any(seen.until(one) is None and Path(f"/proc/{one.pid}").exists() for one in tries)


if __name__ == "__main__":
    sys.exit(main())
