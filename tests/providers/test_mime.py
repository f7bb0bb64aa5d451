"""The bytes of a mail: whatever goes in reads back the same, and nothing injects."""

from __future__ import annotations

import email
import email.policy
import re
from datetime import timedelta, timezone
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.contract import Attachment, Channel, OutboundMessage, PermanentError
from providers.email.addresses import parse_address
from providers.email.mime import Mail, build
from tests.providers.messages import CREATED_AT, message

SENDER = "Tidings <no-reply@tidings.example>"


def mail_of(to: str = "jo@example.com", **fields: Any) -> Mail:
    return build(message(Channel.EMAIL, to, **{"subject": "Hello", "text": "Hi", **fields}), SENDER)


def parsed(mail: Mail) -> EmailMessage:
    """As a reader sees it. What goes over the wire must be fit for any server."""
    lines = mail.content.split(b"\r\n")
    assert all(len(line) <= 998 for line in lines)
    assert b"\n" not in b"".join(lines)
    assert b"\r" not in b"".join(lines)
    if not mail.needs_utf8:
        assert mail.content.isascii()
    # The standard library's bytes parser knows nothing of RFC 6532.
    found = email.message_from_string(mail.content.decode(), policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def content(part: Any) -> str:
    text = part.get_content()
    assert isinstance(text, str)
    return text.replace("\r\n", "\n")


def part(mail: EmailMessage, kind: str) -> Any:
    found = mail.get_body((kind,))
    assert found is not None
    return found


def same_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


# Text that an API lets through: no lone surrogates, no NUL.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300)
LINE = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"), max_size=200)
BREAKS = st.sampled_from(["\r", "\n", "\r\n", "\0", "\n ", "\r\n\t"])


def test_the_headers_of_a_mail_are_all_there() -> None:
    mail = mail_of(
        "Jo Ann <jo@example.com>",
        cc=("b@example.com", "C <c@example.com>"),
        bcc=("Hidden <d@example.com>",),
        reply_to="Help <help@tidings.example>",
        headers={"List-Unsubscribe": "<https://tidings.example/u/1>", "X-Thing": "1"},
        html="<p>Hi</p>",
    )

    read = parsed(mail)

    assert read["From"] == SENDER
    assert read["To"] == "Jo Ann <jo@example.com>"
    assert read["Cc"] == "b@example.com, C <c@example.com>"
    assert read["Bcc"] is None
    assert b"d@example.com" not in mail.content
    assert read["Reply-To"] == "Help <help@tidings.example>"
    assert read["Subject"] == "Hello"
    assert read["Message-ID"] == "<0195f0c0-0000-7000-8000-000000000001@tidings.example>" == mail.message_id
    assert read["Date"].datetime == CREATED_AT
    assert read["MIME-Version"] == "1.0"
    assert read["List-Unsubscribe"] == "<https://tidings.example/u/1>"
    assert mail.sender == "no-reply@tidings.example"
    assert mail.recipients == ("jo@example.com", "b@example.com", "c@example.com", "d@example.com")
    assert read.get_content_type() == "multipart/alternative"
    assert [content(found) for found in read.iter_parts()] == ["Hi", "<p>Hi</p>"]


def test_every_attempt_sends_the_same_bytes() -> None:
    file = Attachment("a.txt", b"abc")

    first = mail_of(html="<p>Hi</p>", attachments=(file,), attempt=1)
    second = mail_of(html="<p>Hi</p>", attachments=(file,), attempt=2)

    assert first.content == second.content


def test_the_date_is_told_in_utc_whatever_zone_it_came_in() -> None:
    there = CREATED_AT.astimezone(timezone(timedelta(hours=-7)))

    assert parsed(mail_of(created_at=there))["Date"] == "Wed, 04 Mar 2026 05:06:07 +0000"


def test_one_part_alone_needs_no_multipart() -> None:
    assert parsed(mail_of(text="Hi")).get_content_type() == "text/plain"
    assert parsed(mail_of(text="", html="<p>Hi</p>")).get_content_type() == "text/html"
    assert content(parsed(mail_of(text=""))) == ""


def test_attachments_and_inline_pictures_stand_where_readers_look_for_them() -> None:
    picture = Attachment("logo.png", b"\x89PNG" * 100, "image/png", content_id="<logo@x>")
    invoice = Attachment("Rechnung März.pdf", bytes(range(256)) * 9, "application/pdf")

    read = parsed(mail_of(html='<img src="cid:logo@x">', attachments=(picture, invoice)))

    assert read.get_content_type() == "multipart/mixed"
    assert content(part(read, "plain")) == "Hi"
    assert content(part(read, "html")) == '<img src="cid:logo@x">'
    (attached,) = list(read.iter_attachments())
    assert (attached.get_filename(), attached.get_content()) == ("Rechnung März.pdf", invoice.content)
    assert attached.get_content_disposition() == "attachment"
    (inline,) = [found for found in read.walk() if found.get_content_type() == "image/png"]
    assert (inline["Content-ID"], inline.get_content_disposition()) == ("<logo@x>", "inline")
    assert inline.get_content() == picture.content
    kinds = [found.get_content_type() for found in read.walk()]
    assert kinds[:5] == ["multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html"]


def test_an_inline_picture_without_html_is_an_attachment() -> None:
    read = parsed(mail_of(attachments=(Attachment("a.png", b"x", "image/png", content_id="a"),)))

    assert [found.get_content_disposition() for found in read.iter_attachments()] == ["attachment"]


def test_a_mail_in_a_mail_is_attached_as_plain_bytes() -> None:
    read = parsed(mail_of(attachments=(Attachment("a.eml", b"From: x\n\nhi", "message/rfc822"),)))

    (attached,) = list(read.iter_attachments())
    assert (attached.get_content_type(), attached.get_content()) == ("application/octet-stream", b"From: x\n\nhi")


@given(TEXT)
@settings(max_examples=100, deadline=None)
def test_any_text_reads_back(text: str) -> None:
    assert content(parsed(mail_of(text=text))) == same_lines(text)


@given(TEXT, TEXT)
@settings(max_examples=100, deadline=None)
def test_text_and_html_read_back_beside_each_other(text: str, html: str) -> None:
    read = parsed(mail_of(text=f"-{text}", html=f"-{html}"))

    assert content(part(read, "plain")) == "-" + same_lines(text)
    assert content(part(read, "html")) == "-" + same_lines(html)


@pytest.mark.parametrize(
    "text",
    [
        ".",
        ".\n..\n.leading",
        "From here on",
        " trailing \n\t\n",
        "--=_x\n--boundary--\n",
        "a" * 5000,
        "ä" * 5000,
        "line \n" * 2000,
        "=" * 2000,
        "é" + "b" * 997 + "\n" + "c" * 998,
        "end\n\n\n",
        "\n\nstart",
        "tab\tand\x0bothers\x0c\x85\u2028",
    ],
)
def test_awkward_text_reads_back(text: str) -> None:
    read = parsed(mail_of(text=text, html=f"<p>{text}</p>"))

    assert content(part(read, "plain")) == same_lines(text)
    assert content(part(read, "html")) == f"<p>{same_lines(text)}</p>"


def test_text_that_imitates_our_boundary_splits_nothing() -> None:
    boundary = re.search(rb'boundary="([^"]+)"', mail_of(html="<p>x</p>").content)
    assert boundary is not None
    forged = f"a\n--{boundary[1].decode()}\nContent-Type: text/html\n\n<b>forged</b>\n--{boundary[1].decode()}--\n"

    read = parsed(mail_of(text=forged, html="<p>x</p>"))

    assert content(part(read, "plain")) == forged
    assert len(list(read.iter_parts())) == 2


@given(LINE)
@settings(max_examples=100, deadline=None)
def test_any_subject_reads_back(subject: str) -> None:
    assert (parsed(mail_of(subject=subject))["Subject"] or "") == subject


@pytest.mark.parametrize(
    "subject",
    [
        "word " * 100 + "end",
        "a" * 3000,
        "=?utf-8?q?literal?=",
        "  spaced  out  ",
        "💥" * 100,
        "тест " * 30 + "x",
        "\ttab",
    ],
)
def test_awkward_subjects_read_back(subject: str) -> None:
    assert parsed(mail_of(subject=subject))["Subject"] == subject


@given(LINE)
@settings(max_examples=100, deadline=None)
def test_any_name_reads_back(name: str) -> None:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    read = parsed(mail_of(f'"{escaped}" <jo@example.com>'))

    (address,) = read["To"].addresses
    # The standard library's parser puts a space between two encoded words of a name, against RFC 2047, 6.2.
    assert "".join(address.display_name.split()) == "".join(name.split())
    assert address.addr_spec == "jo@example.com"


@given(
    LINE, BREAKS, LINE, st.sampled_from(["subject", "to", "reply_to", "cc", "bcc", "sender", "value", "name", "file"])
)
@settings(max_examples=100, deadline=None)
def test_no_line_break_gets_into_a_header(before: str, broken: str, after: str, where: str) -> None:
    bad = f"{before}{broken}{after}"
    person = f"{bad} <jo@example.com>"
    fields: dict[str, Any] = {
        "subject": {"subject": bad},
        "to": {"to": person},
        "reply_to": {"reply_to": person},
        "cc": {"cc": ("a@example.com", person)},
        "bcc": {"bcc": (person,)},
        "sender": {"sender": person},
        "value": {"headers": {"X-Thing": bad}},
        "name": {"headers": {bad: "x"}},
        "file": {"attachments": (Attachment(bad, b""),)},
    }[where]

    with pytest.raises(PermanentError) as caught:
        mail_of(**fields)

    assert caught.value.code in ("invalid_header", "invalid_address")


@given(st.text(max_size=80), st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_no_header_of_the_callers_can_become_two(name: str, value: str) -> None:
    try:
        read = parsed(mail_of(headers={name: value}))
    except PermanentError:
        return
    assert [found.lower() for found in read] == [
        *("from", "to", "subject", "message-id", "date", "mime-version"),
        name.lower(),
        *("content-type", "content-transfer-encoding"),
    ]
    assert content(read) == "Hi"


@pytest.mark.parametrize(
    "name",
    [
        *("From", "TO", "cc", "Bcc", "Reply-To", "Subject", "Date", "Message-ID", "Sender", "Return-Path", "Received"),
        *("Content-Type", "content-transfer-encoding", "Content-Any", "DKIM-Signature", "Resent-To", "MIME-Version"),
        *("", "a b", "a:", "ü", "x" * 100, "\x7f"),
    ],
)
def test_a_reserved_or_malformed_header_is_refused(name: str) -> None:
    with pytest.raises(PermanentError) as caught:
        mail_of(headers={name: "x"})

    assert caught.value.code == "invalid_header"


def test_a_header_of_ids_is_folded_and_not_encoded() -> None:
    ids = " ".join(f"<{number:040d}@example.com>" for number in range(30))

    mail = mail_of(headers={"References": ids})

    assert parsed(mail)["References"].replace("\r\n", "") == ids
    assert b"=?utf-8" not in mail.content


@pytest.mark.parametrize("name", ["X", "Subject-Like", "X-" + "Long" * 18])
def test_lines_with_encoded_words_are_short_enough(name: str) -> None:
    mail = mail_of(f"{'ä' * 90} <jo@example.com>", subject="ß" * 200, headers={name: "é" * 300})

    assert parsed(mail)[name].lstrip() == "é" * 300  # a fold right after the colon reads as a space here
    assert all(len(line) <= 76 for line in mail.content.split(b"\r\n") if b"=?utf-8?" in line)


def test_a_header_value_longer_than_any_line_is_refused() -> None:
    with pytest.raises(PermanentError):
        mail_of(headers={"X-Long": "a" * 2000})


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=150))
@settings(max_examples=100, deadline=None)
def test_any_file_name_reads_back(name: str) -> None:
    read = parsed(mail_of(attachments=(Attachment(name, b"x"),)))

    (attached,) = list(read.iter_attachments())
    assert (attached.get_filename() or "") == name.strip()


@given(st.binary(max_size=500))
def test_any_file_reads_back(data: bytes) -> None:
    (attached,) = list(parsed(mail_of(attachments=(Attachment("a", data),))).iter_attachments())

    assert attached.get_content() == data


@pytest.mark.parametrize(
    "file",
    [
        Attachment("a", b"", "text/html\r\nX: y"),
        Attachment("a", b"", "nonsense"),
        Attachment("a", b"", "text/html", content_id="a>\r\nX: <b"),
        Attachment("a", b"", "text/html", content_id="a b"),
    ],
)
def test_an_attachment_cannot_inject(file: Attachment) -> None:
    with pytest.raises(PermanentError) as caught:
        mail_of(attachments=(file,))

    assert caught.value.code == "invalid_attachment"


@pytest.mark.parametrize(
    ("text", "name", "spec"),
    [
        ("a@b.example", "", "a@b.example"),
        (" <a@b.example> ", "", "a@b.example"),
        ("Jo Ann <a@b.example>", "Jo Ann", "a@b.example"),
        ('"Ann, Jo" <a@b.example>', "Ann, Jo", "a@b.example"),
        (r'"A \"q\" \\ b" <a@b.example>', r'A "q" \ b', "a@b.example"),
        ("Zoë <zoe@BÜCHER.example>", "Zoë", "zoe@xn--bcher-kva.example"),
        ("o'neil+tag_x@mail.b.example", "", "o'neil+tag_x@mail.b.example"),
        ("用户@例え.jp", "", "用户@xn--r8jz45g.jp"),
        ("root@localhost", "", "root@localhost"),
        ("A <B> <a@b.example>", "A <B>", "a@b.example"),
    ],
)
def test_addresses_are_taken_apart(text: str, name: str, spec: str) -> None:
    address = parse_address(text)

    assert (address.name, address.spec) == (name, spec)


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "@b", "a@", "a@b@c", "a b@c.d", "a..b@c.d", ".a@c.d", "a.@c.d", "a@-b.c", "a@b..c", "a@b_c.d"),
        *("a@b.c, d@e.f", "Name <a@b.c", "a@b.c>", "a,b@c.d", "a;b@c.d", "<a@b.c> d@e.f", "a@[1.2.3.4]"),
        *("a@b.c\r\nRCPT TO:<d@e.f>", "a\0@b.c", "\ud800@b.c", "a@\u3000.c"),
        *("x" * 65 + "@b.c", "a@" + "b" * 64 + ".c", "a@" + "b." * 130 + "c"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(PermanentError) as caught:
        parse_address(text)

    assert caught.value.code == "invalid_address"


def test_a_message_to_nobody_is_refused() -> None:
    with pytest.raises(PermanentError) as caught:
        mail_of("  ")

    assert caught.value.code == "no_recipient"


def test_text_that_is_not_unicode_is_refused() -> None:
    for fields in ({"text": "\ud800"}, {"html": "\udfff"}, {"subject": "\ud800"}, {"headers": {"X": "\ud800"}}):
        with pytest.raises(PermanentError):
            mail_of(**fields)


def test_a_non_ascii_mailbox_is_said_to_need_a_server_that_can() -> None:
    assert not mail_of("Zoë <zoe@bücher.example>").needs_utf8
    mail = mail_of("用户 <用户@例え.jp>")

    assert mail.needs_utf8
    assert parsed(mail)["To"].addresses[0].addr_spec == "用户@xn--r8jz45g.jp"


def test_the_senders_own_domain_stands_in_the_message_id() -> None:
    message_: OutboundMessage = message(Channel.EMAIL, "a@b.example", text="x", sender="Shop <hi@shop.example>")

    mail = build(message_, SENDER)

    assert mail.message_id.endswith("@shop.example>")
    assert (mail.sender, parsed(mail)["From"]) == ("hi@shop.example", "Shop <hi@shop.example>")
