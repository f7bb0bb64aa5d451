"""The counting behind the limits: exact alone, shared over Redis, never over the limit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.config import Settings
from app.entrypoints.api.limits import RateLimiter


class Now:
    """A time of day that is moved by hand."""

    def __init__(self) -> None:
        self.at = 1_000_000.5

    def __call__(self) -> float:
        return self.at


@pytest.fixture(params=["memory", "redis", "redis away"])
def settings(request: pytest.FixtureRequest) -> Settings:
    url = ""
    if request.param == "redis":
        server: Any = request.getfixturevalue("redis")
        server.flush()
        url = server.url
    elif request.param == "redis away":
        url = "redis://127.0.0.1:1"
    return Settings(
        redis_url=url, rate_limit_read="4 per minute", rate_limit_events="1000 per minute", rate_limit_write="1 per day"
    )


def test_each_identity_and_group_has_windows_of_its_own(settings: Settings) -> None:
    now = Now()
    limiter = RateLimiter(settings, now)

    assert [limiter.hit("read", "a").exceeded for _ in range(6)] == [False] * 4 + [True] * 2
    assert not limiter.hit("read", "b").exceeded
    assert not limiter.hit("write", "a").exceeded
    assert limiter.hit("write", "a").exceeded
    now.at += 60
    assert not limiter.hit("read", "a").exceeded
    assert limiter.hit("write", "a").exceeded


def test_the_standing_says_what_is_left_and_until_when(settings: Settings) -> None:
    now = Now()
    limiter = RateLimiter(settings, now)
    now.at = 60 * 20_000 + 12.5

    first = limiter.hit("read", "a")

    assert (first.limit, first.remaining, first.reset) == (4, 3, 48)
    assert limiter.hit("read", "a").remaining == 2


def test_threads_never_pass_the_limit_together(settings: Settings) -> None:
    limiter = RateLimiter(settings, Now())

    with ThreadPoolExecutor(16) as pool:
        refused = list(pool.map(lambda _: limiter.hit("events", "a").exceeded, range(1500)))

    # Threads that take a block at once may waste all but one of them: fewer may pass, never more.
    assert 500 <= refused.count(False) <= 1000


def test_processes_count_together_through_redis(redis: Any) -> None:
    redis.flush()
    settings = Settings(redis_url=redis.url, rate_limit_events="1000 per minute", rate_limit_read="5 per minute")
    two = [RateLimiter(settings, Now()) for _ in range(2)]

    assert [two[n % 2].hit("read", "a").exceeded for n in range(7)] == [False] * 5 + [True] * 2
    passed = sum(not two[n % 2].hit("events", "a").exceeded for n in range(1500))
    assert 990 <= passed <= 1000
