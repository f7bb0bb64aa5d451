"""Which providers serve a channel, in what order. The only importer of concrete providers."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path

from app.clock import Clock
from app.config import Settings
from app.core import inbox
from app.db import Database
from app.tenancy import tenant
from providers.catcher import CatcherStore, EmailCatcher, SmsCatcher
from providers.contract import Channel, OutboundMessage, Provider
from providers.email.smtp import Smtp
from providers.http import HttpClient
from providers.in_app.inbox import InApp
from providers.sms.twilio import Twilio
from providers.webhook.standard import StandardWebhook

LOOPBACK = ("127.0.0.0/8", "::1/128")


def reachable_ranges(settings: Settings) -> tuple[str, ...]:
    """The private ranges that a webhook may reach: the operator's, and loopback when embedded."""
    return settings.webhook_allowed_cidrs + (LOOPBACK if settings.embedded else ())


class Channels:
    """The providers of each channel, kept for the life of the process."""

    def __init__(
        self,
        providers: Mapping[Channel, Sequence[Provider]],
        timeouts: Mapping[Channel, float],
        own: Container[Channel] = (),
    ) -> None:
        """`own`: the channels whose messages end in our own database."""
        self._own = own
        self._providers = {channel: tuple(providers.get(channel, ())) for channel in Channel}
        self._timeouts = dict(timeouts)

    @classmethod
    def from_settings(cls, settings: Settings, db: Database, clock: Clock) -> Channels:
        """What the settings ask for. Nothing is connected yet."""
        made: dict[Channel, list[Provider]] = {
            Channel.EMAIL: [_EMAIL[name](settings, clock) for name in settings.email_providers],
            Channel.SMS: [_SMS[name](settings, clock) for name in settings.sms_providers],
            Channel.WEBHOOK: [StandardWebhook(http_client(settings), now=lambda: clock.now().timestamp())],
            Channel.IN_APP: [InApp(_inbox_writer(db))],
        }
        timeouts = {
            Channel.EMAIL: settings.email_timeout / 1000,
            Channel.SMS: settings.sms_timeout / 1000,
            Channel.WEBHOOK: settings.webhook_timeout / 1000,
            Channel.IN_APP: 5.0,
        }
        return cls(made, timeouts, own=(Channel.IN_APP,))

    def providers(self, channel: Channel) -> tuple[Provider, ...]:
        """The providers of a channel, the preferred one first; empty when nobody serves it."""
        return self._providers[channel]

    def is_own(self, channel: Channel) -> bool:
        """Whether to keep a message of this channel, by `inbox.add`, is to deliver it."""
        return channel in self._own

    def provider_for(self, channel: Channel, tries: int, resting: Container[str] = ()) -> Provider | None:
        """Who takes the try of this number (from 1): the providers of the channel take turns.

        Those whose names (`label`) are in `resting` are passed over, unless all are.
        """
        providers = self._providers[channel]
        turns = [providers[(tries - 1 + step) % len(providers)] for step in range(len(providers))]
        return next((provider for provider in turns if label(provider) not in resting), turns[0] if turns else None)

    def timeout(self, channel: Channel) -> float:
        """Seconds that one send of this channel may last."""
        return self._timeouts.get(channel, 30.0)

    def close(self) -> None:
        """Give back every kept connection."""
        for providers in self._providers.values():
            for provider in providers:
                provider.close()


def label(provider: Provider) -> str:
    """What a provider is called in the tables of the whole installation, such as `email:smtp`."""
    return f"{provider.channel}:{provider.name}"


def http_client(settings: Settings) -> HttpClient:
    """The one client for URLs that somebody typed in."""
    return HttpClient(allow=reachable_ranges(settings), timeout_ms=settings.webhook_timeout)


def catcher_store(settings: Settings) -> CatcherStore:
    """Where the catcher keeps what would have gone out."""
    return CatcherStore(settings.data_dir / "outbox")


def twilio(settings: Settings, clock: Clock) -> Twilio:
    """SMS by Twilio; also reads its callbacks."""
    return Twilio(
        settings.twilio_account_sid,
        settings.twilio_auth_token,
        settings.twilio_phone_number,
        base_url=settings.twilio_api_url,
        timeout_s=settings.sms_timeout / 1000,
        clock=clock.now,
    )


def _smtp(settings: Settings, clock: Clock) -> Smtp:
    context = None
    if settings.email_ca_file:
        context = ssl.create_default_context()
        context.load_verify_locations(Path(settings.email_ca_file))
    return Smtp(
        settings.email_host,
        settings.email_port,
        sender=settings.email_from,
        secure=settings.email_secure,
        user=settings.email_user,
        password=settings.email_password,
        timeout_s=settings.email_timeout / 1000,
        ssl_context=context,
        clock=clock.now,
    )


_EMAIL: dict[str, Callable[[Settings, Clock], Provider]] = {
    "smtp": _smtp,
    "catcher": lambda settings, clock: EmailCatcher(catcher_store(settings), settings.email_from, clock.now),
}
_SMS: dict[str, Callable[[Settings, Clock], Provider]] = {
    "twilio": twilio,
    "catcher": lambda settings, clock: SmsCatcher(catcher_store(settings), clock.now),
}


def _inbox_writer(db: Database) -> Callable[[Sequence[OutboundMessage]], None]:
    def write(messages: Sequence[OutboundMessage]) -> None:
        tenant_id = messages[0].metadata["tenantId"]  # a batch holds one tenant
        with db.work(tenant(tenant_id)) as session:
            inbox.add(session, tenant_id, [inbox.item(message) for message in messages], late=True)

    return write
