"""Templates: which words count for a key, a channel and a locale, and what may be saved."""

from __future__ import annotations

from typing import Any

import pytest

from app.core import templates
from app.core.runtime import Runtime
from app.errors import ConflictError, InvalidError, NotFoundError
from app.ids import new_id
from app.paging import Cursor
from app.tenancy import tenant

SMS = {"key": "greeting", "channel": "sms", "text": "Hello {{data.name}}"}


class Words:
    """The templates of one tenant, each call in a transaction of its own."""

    def __init__(self, runtime: Runtime, tenant_id: str) -> None:
        self.runtime, self.tenant_id = runtime, tenant_id

    def save(self, **fields: Any) -> str:
        with self.runtime.db.transaction(tenant(self.tenant_id)) as session:
            return templates.create(session, self.runtime.files, self.runtime.clock, self.tenant_id, fields).id

    def replace(self, template_id: str, **fields: Any) -> int:
        with self.runtime.db.transaction(tenant(self.tenant_id)) as session:
            found = templates.replace(
                session, self.runtime.files, self.runtime.clock, self.tenant_id, template_id, fields
            )
            return found.version

    def remove(self, template_id: str) -> None:
        with self.runtime.db.transaction(tenant(self.tenant_id)) as session:
            templates.remove(session, self.runtime.files, self.tenant_id, template_id)

    def render(self, key: str, channel: str, locale: str = "en", **data: Any) -> dict[str, str]:
        with self.runtime.db.transaction(tenant(self.tenant_id), read_only=True) as session:
            found = templates.message(session, self.runtime.files, self.tenant_id, key, channel, locale)
        return found.render({"data": data})

    def preview(self, **fields: Any) -> dict[str, str]:
        with self.runtime.db.transaction(tenant(self.tenant_id), read_only=True) as session:
            return templates.preview(session, self.runtime.files, self.runtime.clock, self.tenant_id, fields)


@pytest.fixture
def words(runtime: Runtime, tenant_id: str) -> Words:
    return Words(runtime, tenant_id)


def test_the_nearest_locale_counts(words: Words) -> None:
    words.save(**SMS)
    words.save(**SMS | {"locale": "de", "text": "Hallo {{data.name}}"})
    words.save(**SMS | {"locale": "de_AT", "text": "Servus {{data.name}}"})
    for locale, expected in (("de-AT", "Servus"), ("de-CH", "Hallo"), ("de", "Hallo"), ("fr", "Hello"), ("", "Hello")):
        assert words.render("greeting", "sms", locale, name="Ada") == {"text": f"{expected} Ada"}


def test_a_tenants_row_overrides_the_shipped_text_until_it_is_removed(words: Words) -> None:
    shipped = words.render("order.created", "sms")
    template_id = words.save(key="order.created", channel="sms", text="Ours")
    assert words.render("order.created", "sms") == {"text": "Ours"}
    words.remove(template_id)
    assert words.render("order.created", "sms") == shipped


def test_a_tenants_pieces_stand_over_the_shipped_ones(words: Words) -> None:
    before = words.render("order.created", "email")["html"]
    piece = words.save(key="layouts/default", channel="email", html="<p>Ours</p>{{> @partial-block}}")
    after = words.render("order.created", "email")["html"]
    assert "Ours" in after
    assert "Ours" not in before
    words.remove(piece)
    assert words.render("order.created", "email")["html"] == before


def test_a_change_is_seen_at_once_and_its_version_goes_up(words: Words) -> None:
    template_id = words.save(**SMS)
    assert words.render("greeting", "sms", name="Ada") == {"text": "Hello Ada"}
    assert words.replace(template_id, **SMS | {"text": "Hi {{data.name}}"}) == 2
    assert words.render("greeting", "sms", name="Ada") == {"text": "Hi Ada"}


def test_an_unknown_key_is_not_found(words: Words) -> None:
    for key in ("no.such.key", "../../etc/passwd", "layouts/default"):
        with pytest.raises(NotFoundError):
            words.render(key, "sms")


def test_one_key_channel_and_locale_has_one_template(words: Words) -> None:
    words.save(**SMS)
    with pytest.raises(ConflictError):
        words.save(**SMS)


@pytest.mark.parametrize(
    ("fields", "path", "says"),
    [
        ({"key": "../x"}, "key", ""),
        ({"key": "a/../b"}, "key", ""),
        ({"channel": "pigeon"}, "channel", ""),
        ({"locale": "nonsense"}, "locale", ""),
        ({"text": "a\n{{#if b}}"}, "text", "line 2, column 1"),
        ({"text": "{{nosuchhelper 1}}"}, "text", "line 1"),
        ({"text": "{{> partials/none}}"}, "text", "line 1"),
        ({"subject": "s"}, "subject", "is no part"),
        ({"text": None}, "text", "needs"),
        ({"channel": "email", "subject": "s", "html": "<p>{{#each}}</p>"}, "html", "line 1"),
        ({"key": "partials/x", "channel": "email", "html": "a"}, "html", "exactly one part"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_stored(
    words: Words, fields: dict[str, Any], path: str, says: str
) -> None:
    with pytest.raises(InvalidError) as refused:
        words.save(**SMS | fields)
    assert set(refused.value.fields) == {path}
    assert says in refused.value.fields[path]
    with words.runtime.db.transaction(tenant(words.tenant_id)) as session:
        assert templates.search(session, words.tenant_id, Cursor()).items == []


def test_a_fault_in_a_piece_names_the_piece_that_is_saved(words: Words) -> None:
    with pytest.raises(InvalidError) as refused:
        words.save(key="partials/foot", channel="email", html="<p>{{/if}}</p>")
    assert set(refused.value.fields) == {"html"}


def test_a_piece_that_is_included_cannot_be_removed(words: Words) -> None:
    piece = words.save(key="partials/foot", channel="sms", text="Bye")
    user = words.save(key="greeting", channel="sms", text="Hello. {{> partials/foot}}")
    assert words.render("greeting", "sms") == {"text": "Hello. Bye"}
    with pytest.raises(ConflictError):
        words.remove(piece)
    words.remove(user)
    words.remove(piece)


def test_a_preview_shows_unsaved_text_with_partials_in_a_locale(words: Words) -> None:
    found = words.preview(
        channel="email",
        subject="{{data.n}} & {{event.type}}",
        html="<p>{{> foot}} {{data.x}}</p>",
        data={"n": 1, "x": "<b>"},
        partials={"foot": "Foot of {{recipient.name}}"},
        recipient={"name": "Ada"},
    )
    assert found["subject"] == "1 & preview"
    assert "Foot of Ada &lt;b&gt;" in found["html"]
    assert "Foot of Ada <b>" in found["text"]


def test_a_preview_finds_the_fields_of_data_also_without_its_name(words: Words) -> None:
    assert words.preview(channel="sms", text="{{name}} {{data.name}}", data={"name": "Ada"}) == {"text": "Ada Ada"}


def test_a_preview_that_cannot_be_rendered_blames_the_data(words: Words) -> None:
    with pytest.raises(InvalidError) as refused:
        words.preview(channel="in_app", title="t", text="t", actionUrl="{{data.url}}", data={"url": "javascript:x"})
    assert set(refused.value.fields) == {"data"}


def test_a_saved_template_is_previewed_under_its_own_key(words: Words) -> None:
    template_id = words.save(**SMS)
    with words.runtime.db.transaction(tenant(words.tenant_id), read_only=True) as session:
        found = templates.preview_saved(
            session, words.runtime.files, words.runtime.clock, words.tenant_id, template_id, {"data": {"name": "Ada"}}
        )
    assert found == {"text": "Hello Ada"}


def test_every_shipped_template_can_be_read_and_saved_as_ones_own(words: Words) -> None:
    shipped = templates.shipped(words.runtime.files, Cursor(200)).items
    assert {"order.created", "user.registered", "subscription.payment_failed"} <= {item["key"] for item in shipped}
    for item in shipped:
        words.save(key=item["key"], channel=item["channel"], **item["parts"])


def test_an_unknown_template_is_not_found(words: Words) -> None:
    for template_id in ("nonsense", new_id()):
        with pytest.raises(NotFoundError):
            words.remove(template_id)
