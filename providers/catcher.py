"""Email and SMS kept in a directory instead of being sent, for trying the service out.

One JSON file a message, named so that names sort by time. Any number of threads and processes may write and read.
"""

from __future__ import annotations

import builtins
import errno
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from providers.contract import Accepted, Channel, OutboundMessage, PermanentError, Result, RetryableError
from providers.email.mime import build
from providers.sms import segments
from providers.sms.numbers import invalid_number, is_e164

KEEP = 1000
_PRUNE_EVERY = 50  # writes; between two prunings the directory may hold that many more
_ID = re.compile(r"[0-9]{20}-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class CaughtMessage:
    """What would have gone out. `time` is RFC 3339 UTC; `detail` holds what only one channel has."""

    id: str
    channel: str
    time: str
    delivery_id: str
    sender: str
    to: str
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    reply_to: str | None = None
    subject: str = ""
    text: str = ""
    html: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[Mapping[str, Any], ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)


class CatcherStore:
    """The directory. It is made when first written to; only the newest `keep` messages stay."""

    def __init__(self, directory: Path | str, keep: int = KEEP) -> None:
        self._directory = Path(directory)
        self._keep = keep
        self._writes = 0

    def new_id(self) -> str:
        """An id that sorts after all before it."""
        return f"{time.time_ns():020d}-{secrets.token_hex(4)}"

    def add(self, caught: CaughtMessage) -> None:
        """Write one message, whole or not at all. Raises RetryableError when the disk will not take it."""
        final = self._directory / f"{caught.id}.json"
        unfinished = final.with_suffix(".part")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(json.dumps(asdict(caught)), encoding="utf-8")
            unfinished.replace(final)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            code = "disk_full" if full else "storage_failed"
            raise RetryableError(code, "the message could not be kept", loud=True) from error
        if self._writes % _PRUNE_EVERY == 0:
            self._prune()
        self._writes += 1

    def list(self, limit: int = 50, after: str | None = None) -> builtins.list[CaughtMessage]:
        """Newest first; `after` is the id of the last one already seen."""
        ids = self._ids()[: self._keep]
        if after is not None:
            ids = [caught_id for caught_id in ids if caught_id < after]
        found: builtins.list[CaughtMessage] = []
        for caught_id in ids:
            if len(found) >= limit:
                break
            if (caught := self.get(caught_id)) is not None:
                found.append(caught)
        return found

    def get(self, caught_id: str) -> CaughtMessage | None:
        """One message; None for an id that is unknown or no id at all (it may come from a URL)."""
        if not _ID.fullmatch(caught_id):
            return None
        try:
            kept = json.loads((self._directory / f"{caught_id}.json").read_text(encoding="utf-8"))
            tuples = {name: tuple(kept[name]) for name in ("cc", "bcc", "attachments")}
            return CaughtMessage(**{**kept, **tuples})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _ids(self) -> builtins.list[str]:
        try:
            names = os.listdir(self._directory)
        except OSError:
            return []
        stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return sorted((stem for stem in stems if _ID.fullmatch(stem)), reverse=True)

    def _prune(self) -> None:
        for caught_id in self._ids()[self._keep :]:
            with suppress(OSError):
                (self._directory / f"{caught_id}.json").unlink()


def _now() -> datetime:
    return datetime.now(UTC)


class _Catcher:
    """What both channels share: one message after the other into the store."""

    channel: Channel

    def __init__(self, store: CatcherStore, sender: str, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._sender = sender
        self._clock = clock

    def send_batch(self, messages: Iterable[OutboundMessage], deadline: float) -> Iterator[Result]:
        """See Provider. Refuses what a real provider would refuse before sending."""
        for message in messages:
            if time.monotonic() >= deadline:
                return
            started_at, began = self._clock(), time.monotonic()
            outcome: Accepted | Exception
            try:
                caught = self._caught(message, self._store.new_id(), started_at)
                self._store.add(caught)
                outcome = Accepted(provider_id=caught.id, detail=caught.detail)
            except Exception as error:
                outcome = error  # what is not a ProviderError is our bug: the sender logs it
            yield Result(message, outcome, started_at, (time.monotonic() - began) * 1000)

    def close(self) -> None:
        """Nothing is kept open."""

    def _caught(self, message: OutboundMessage, caught_id: str, now: datetime) -> CaughtMessage:
        raise NotImplementedError


class EmailCatcher(_Catcher):
    """Catches email. `sender`: the From of messages without their own."""

    name = "email_catcher"
    channel = Channel.EMAIL

    def __init__(self, store: CatcherStore, sender: str, clock: Callable[[], datetime] = _now) -> None:
        super().__init__(store, sender, clock)

    def _caught(self, message: OutboundMessage, caught_id: str, now: datetime) -> CaughtMessage:
        mail = build(message, self._sender)
        return CaughtMessage(
            id=caught_id,
            channel=self.channel,
            time=now.isoformat(),
            delivery_id=message.delivery_id,
            sender=message.sender or self._sender,
            to=message.to,
            cc=message.cc,
            bcc=message.bcc,
            reply_to=message.reply_to,
            subject=message.subject,
            text=message.text,
            html=message.html,
            headers={**message.headers, "Message-ID": mail.message_id},
            attachments=tuple(
                {"filename": file.filename, "contentType": file.content_type, "size": len(file.content)}
                for file in message.attachments
            ),
            detail={"bytes": len(mail.content), "recipients": len(mail.recipients)},
        )


class SmsCatcher(_Catcher):
    """Catches SMS. `sender`: the number messages come from, if there is one."""

    name = "sms_catcher"
    channel = Channel.SMS

    def __init__(self, store: CatcherStore, clock: Callable[[], datetime] = _now, sender: str = "") -> None:
        super().__init__(store, sender, clock)

    def _caught(self, message: OutboundMessage, caught_id: str, now: datetime) -> CaughtMessage:
        if not is_e164(message.to):
            raise invalid_number()
        if not message.text:
            raise PermanentError("empty_message", "an SMS needs a text")
        size = segments.count(message.text)
        return CaughtMessage(
            id=caught_id,
            channel=self.channel,
            time=now.isoformat(),
            delivery_id=message.delivery_id,
            sender=message.sender or self._sender,
            to=message.to,
            text=message.text,
            detail={"segments": size.count, "encoding": size.encoding},
        )
