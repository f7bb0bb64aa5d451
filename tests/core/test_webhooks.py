"""Webhook configurations: which URLs may be called, who is subscribed, and what is kept secret."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from app.core import webhooks
from app.core.runtime import Runtime
from app.errors import ConflictError, InvalidError, NotFoundError
from app.models import WebhookConfiguration
from app.paging import Cursor
from app.tenancy import tenant

UNKNOWN = "01a1f7d4-913b-757d-814a-4afe303badb3"
URL = "https://example.com/hook"


@pytest.fixture
def add(runtime: Runtime, tenant_id: str) -> Callable[..., tuple[WebhookConfiguration, str]]:
    """Subscribe a URL: (configuration, secret)."""

    def make(**fields: Any) -> tuple[WebhookConfiguration, str]:
        with runtime.db.transaction(tenant(tenant_id)) as session:
            return webhooks.create(session, runtime.vault, runtime.clock, tenant_id, {"url": URL, **fields})

    return make


def nobody(_host: str, _port: int) -> list[str]:
    raise OSError("no such name")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://127.1/",
        "http://2130706433/",
        "http://[::1]/",
        "http://[::ffff:169.254.169.254]/latest/meta-data",
        "http://10.0.0.1/",
        "ftp://example.com/",
        "https://user:pass@example.com/",
        "https://example.com:0/",
        "https://exa mple.com/",
        "not a url",
    ],
)
def test_a_url_that_may_not_be_called_is_refused_when_it_is_saved(url: str) -> None:
    with pytest.raises(InvalidError) as refused:
        webhooks.check_target(url, (), resolver=nobody)
    assert set(refused.value.fields) == {"url"}


def test_a_name_that_leads_to_a_private_address_is_refused_and_an_admitted_range_is_not() -> None:
    def inside(_host: str, _port: int) -> list[str]:
        return ["93.184.216.34", "10.1.2.3"]

    with pytest.raises(InvalidError):
        webhooks.check_target(URL, (), resolver=inside)
    webhooks.check_target(URL, ("10.0.0.0/8",), resolver=inside)
    webhooks.check_target(URL, (), resolver=nobody)  # names may come later; what is dialled is judged again


def test_the_secret_is_sealed_and_only_its_beginning_is_shown(runtime: Runtime, add: Any) -> None:
    made, secret = add()
    assert secret.startswith("whsec_")
    assert secret not in made.secret
    assert runtime.vault.open(made.secret) == secret
    hint = webhooks.hint(runtime.vault, made)
    assert secret.startswith(hint[:-1])
    assert len(hint) <= 11


def test_disabled_subscribers_are_known_by_their_id_only(runtime: Runtime, tenant_id: str, add: Any) -> None:
    # given two subscribers, and one that is disabled
    everything, _ = add()
    branch, _ = add(event_types=["order.*"])
    off, _ = add(enabled=False)
    with runtime.db.transaction(tenant(tenant_id)) as session:
        # when they are asked for, then the two are found, and all can be loaded by id
        assert list(webhooks.enabled(session, tenant_id)) == [everything.id, branch.id]
        loaded = webhooks.load(session, tenant_id, [off.id, UNKNOWN])
    assert list(loaded) == [off.id]
    assert not loaded[off.id].enabled


def test_disabling_says_why_and_enabling_clears_it(runtime: Runtime, tenant_id: str, add: Any) -> None:
    made, _ = add()
    with runtime.db.transaction(tenant(tenant_id)) as session:
        webhooks.disable(session, runtime.clock, tenant_id, made.id, "gone")
        webhooks.disable(session, runtime.clock, tenant_id, made.id, "later reason")
    with runtime.db.transaction(tenant(tenant_id)) as session:
        found = webhooks.get(session, tenant_id, made.id)
        assert (found.enabled, found.disabled_reason) == (False, "gone")
        # a replacement that leaves it disabled keeps the reason
        webhooks.replace(session, runtime.clock, tenant_id, made.id, {"url": URL, "enabled": False})
        assert found.disabled_reason == "gone"
        again = webhooks.replace(session, runtime.clock, tenant_id, made.id, {"url": URL + "2", "enabled": True})
        assert (again.url, again.enabled, again.disabled_reason, again.disabled_at) == (URL + "2", True, None, None)


def test_replacing_keeps_the_secret_and_regenerating_changes_it(runtime: Runtime, tenant_id: str, add: Any) -> None:
    made, secret = add()
    with runtime.db.transaction(tenant(tenant_id)) as session:
        found = webhooks.replace(session, runtime.clock, tenant_id, made.id, {"url": URL, "description": "x"})
        assert runtime.vault.open(found.secret) == secret
        _, fresh = webhooks.regenerate_secret(session, runtime.vault, runtime.clock, tenant_id, made.id)
        assert fresh != secret
        assert runtime.vault.open(webhooks.get(session, tenant_id, made.id).secret) == fresh


def test_no_event_types_are_not_taken_for_all(add: Any) -> None:
    with pytest.raises(InvalidError) as refused:
        add(event_types=[])
    assert set(refused.value.fields) == {"eventTypes"}
    made, _ = add()
    assert made.event_types == ["*"]


def test_wrong_event_types_are_named(add: Any) -> None:
    with pytest.raises(InvalidError) as refused:
        add(event_types=["order.*", "or der"])
    assert set(refused.value.fields) == {"eventTypes.1"}


def test_there_is_an_end_to_how_many_a_tenant_may_have(add: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "MAX_CONFIGURATIONS", 1)
    add()
    with pytest.raises(ConflictError):
        add()


@pytest.mark.parametrize("configuration_id", ["nonsense", UNKNOWN])
def test_an_unknown_configuration_is_not_found(runtime: Runtime, tenant_id: str, configuration_id: str) -> None:
    works: list[Callable[[Any], Any]] = [
        lambda session: webhooks.get(session, tenant_id, configuration_id),
        lambda session: webhooks.remove(session, tenant_id, configuration_id),
        lambda session: webhooks.logs(session, tenant_id, configuration_id, Cursor()),
    ]
    for work in works:
        with pytest.raises(NotFoundError), runtime.db.transaction(tenant(tenant_id)) as session:
            work(session)


def test_a_name_server_that_hangs_does_not_keep_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "LOOKUP_SECONDS", 0.05)
    answered = threading.Event()

    def hanging(*_: Any) -> list[str]:
        answered.wait(10)
        return []

    with pytest.raises(InvalidError) as caught:
        webhooks.check_target("https://example.com/hook", (), resolver=hanging)
    answered.set()
    assert "in time" in caught.value.fields["url"]
