"""The templates that ship with the product: all there, all sound, readable with all the data and with none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from app.core.templating import PARTS, FileTemplates, compile_message

ROOT = Path(__file__).parents[3] / "templates"
SHIPPED = FileTemplates(ROOT)
KEYS = ("order.created", "subscription.payment_failed", "tidings.test", "user.registered")
DATA: dict[str, dict[str, Any]] = {
    "order.created": {
        "orderId": "A-1001",
        "total": 49.9,
        "currency": "EUR",
        "items": [{"name": "Teapot", "quantity": 1, "price": 49.9}],
        "url": "https://shop.example/orders/A-1001",
    },
    "user.registered": {"name": "Ada", "url": "https://shop.example/start"},
    "subscription.payment_failed": {
        "plan": "Pro",
        "amount": 12,
        "currency": "EUR",
        "url": "https://shop.example/pay",
        "retryAt": "2026-03-04T10:00:00Z",
    },
    "tidings.test": {},
}


def context(key: str, data: dict[str, Any], *, is_bare: bool = False) -> dict[str, Any]:
    recipient = {"userId": "u1", "locale": "en", "timeZone": "UTC", "attributes": {}}
    return {
        "event": {"id": "e1", "type": key, "occurredAt": "2026-03-01T23:30:00Z", "data": data},
        "data": data,
        "recipient": recipient
        if is_bare
        else recipient | {"name": "Ada <3", "email": "ada@example.org", "phone": "+49123"},
        "tenant": {"name": None if is_bare else "Tea & Co"},
    }


def test_every_event_has_a_template_on_every_channel() -> None:
    assert SHIPPED.keys() == sorted((key, channel) for key in KEYS for channel in PARTS)


@pytest.mark.parametrize(("key", "channel"), SHIPPED.keys())
@pytest.mark.parametrize("is_bare", [False, True])
def test_it_reads_well_with_all_the_data_and_with_none(key: str, channel: str, is_bare: bool) -> None:
    message = compile_message(channel, SHIPPED.parts(key, channel) or {}, SHIPPED.partials(channel))
    result = message.render(
        context(key, {} if is_bare else DATA[key], is_bare=is_bare), locale="de-DE", time_zone="Europe/Berlin"
    )
    for part in result:
        if part in ("html", "payload"):
            continue
        assert result[part] == result[part].strip()
        assert result[part]
        assert not re.search(r" [,.!]|\(\)|None|undefined|\[object|&amp;| \n|,\.", result[part]), result[part]
    if channel == "webhook":
        payload = json.loads(result["payload"])
        assert payload == {"type": key, "timestamp": "2026-03-01T23:30:00Z", "data": {} if is_bare else DATA[key]}
    if channel == "email":
        assert "Ada <3" not in result["html"]
        assert message._html is not None
        assert message._html.is_static


def test_an_order_mail_shows_the_order() -> None:
    message = compile_message("email", SHIPPED.parts("order.created", "email") or {}, SHIPPED.partials("email"))
    result = message.render(context("order.created", DATA["order.created"]), locale="de-DE", time_zone="Europe/Berlin")
    assert result["subject"] == "Your order A-1001"
    for words in (
        "Teapot  1  49,90 €",
        "Total  49,90 €",
        "View your order (https://shop.example/orders/A-1001)",
        "2. März 2026",
    ):
        assert words in result["text"]
    assert "display: inline-block" in result["html"]
    assert "@media (max-width: 480px)" in result["html"]


@pytest.mark.parametrize(
    "key",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "layouts",
        "partials",
        "order.created/email.subject",
        "..",
        "",
        "order.created\0",
        "ORDER.CREATED",
    ],
)
def test_a_key_never_leaves_the_folder(key: str) -> None:
    for channel in PARTS:
        assert SHIPPED.parts(key, channel) is None
    assert SHIPPED.parts("order.created", "../email") is None
    assert SHIPPED.partials("../email") == {}


def test_what_is_handed_out_cannot_change_what_is_kept() -> None:
    (SHIPPED.parts("order.created", "sms") or {}).clear()
    SHIPPED.partials("email").clear()
    assert SHIPPED.parts("order.created", "sms")
    assert "layouts/default" in SHIPPED.partials("email")


def test_a_file_that_is_no_part_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "a.key").mkdir()
    (tmp_path / "a.key" / "email.body.hbs").write_text("x")
    with pytest.raises(ValueError, match=r"email\.body\.hbs"):
        FileTemplates(tmp_path)
