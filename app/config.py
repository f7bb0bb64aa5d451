"""Settings: the only reader of the environment. Read once, typed, and refused with all complaints at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from app.config_rules import contradictions
from app.config_values import cidrs, flag, lanes, list_of, one_of, pace, rate, text, url, whole

LANES = ("transactional", "normal", "bulk")  # the more urgent first
_VAR = Path("var")


class SettingsError(Exception):
    """One or more settings are wrong. `complaints` holds one sentence for each."""

    def __init__(self, complaints: list[str]) -> None:
        super().__init__("\n".join(complaints))
        self.complaints = complaints


def setting(default: Any, parse: Callable[[str], Any], about: str, *, secret: bool = False) -> Any:
    """One setting: its default, how its text becomes a value (ValueError: why not), and a sentence for the docs."""
    return field(default=default, metadata={"parse": parse, "about": about, "secret": secret}, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting. The environment's name is the field's in capitals; secrets may also come as NAME_FILE."""

    # where it runs
    host: str = setting("127.0.0.1", text, "Address to listen on.")
    port: int = setting(8000, whole(1, 65535), "Port to listen on.")
    public_url: str = setting(
        "",
        url("http", "https"),
        "The address under which people and providers reach this service; default http://HOST:PORT.",
    )
    data_dir: Path = setting(_VAR, Path, "Folder for the embedded database and the catcher.")
    database_url: str = setting(
        "",
        url("postgresql"),
        "PostgreSQL, as an ordinary role; empty: embedded (SQLite in DATA_DIR).",
        secret=True,
    )
    migration_database_url: str = setting(
        "",
        url("postgresql"),
        "The same database as its owner, for `tidings migrate`; default DATABASE_URL.",
        secret=True,
    )
    database_timeout: int = setting(
        15_000, whole(100, 600_000), "Milliseconds that a web process waits for PostgreSQL while it says nothing."
    )
    redis_url: str = setting(
        "", url("redis", "rediss", "unix"), "Redis, needed with PostgreSQL; empty: embedded.", secret=True
    )
    secret_key: str = setting(
        "", text, "At least 32 characters; encrypts secrets at rest. Embedded: made and kept in DATA_DIR.", secret=True
    )
    tenant_name: str = setting("Tidings", text, "Name of the first tenant, as people read it in messages.")
    bootstrap_api_key: str = setting(
        "", text, "First API key (tdg_live_ and 32 or more letters and digits).", secret=True
    )
    log_level: str = setting("info", one_of("debug", "info", "warning", "error"), "Least severity that is logged.")
    log_format: str = setting("json", one_of("json", "text"), "json for machines, text for eyes.")
    metrics_token: str = setting("", text, "Bearer token for /metrics; empty: loopback only.", secret=True)
    prometheus_multiproc_dir: str = setting(
        "",
        text,
        "Folder in which the processes of a command count together, made and emptied at each start; default: a"
        " temporary one.",
    )
    otel_exporter_otlp_endpoint: str = setting(
        "",
        url("http", "https"),
        "Where traces go, by OTLP over HTTP, as http://127.0.0.1:4318; needs the extra `tracing`; empty: none.",
    )
    web_threads: int = setting(8, whole(1, 512), "Request threads of each web process.")
    web_processes: int = setting(2, whole(1, 64), "Web processes of `tidings web`.")
    worker_threads: int = setting(16, whole(1, 256), "Threads of each worker process, shared out among the lanes.")
    worker_lanes: tuple[tuple[str, int], ...] = setting(
        (),
        lanes(*LANES),
        "Threads by lane of each worker process, as transactional=2,normal=4,bulk=2; a lane left out is not served by"
        " it; unset: WORKER_THREADS, a third each.",
    )
    worker_processes: int = setting(2, whole(1, 64), "Processes of `tidings worker`.")
    worker_port: int = setting(
        0, whole(0, 65535), "Port on which `tidings worker` answers /health and /metrics, on HOST; 0: none."
    )
    sweep_seconds: int = setting(3, whole(1, 3600), "How often a worker looks for forgotten and due work.")

    # email
    email_service: tuple[str, ...] = setting(
        (),
        list_of("smtp", "catcher"),
        "Providers in order; unset: smtp if EMAIL_HOST is set, else the catcher when embedded.",
    )
    email_host: str = setting("", text, "SMTP server.")
    email_port: int = setting(587, whole(1, 65535), "SMTP port.")
    email_secure: bool = setting(False, flag, "true: TLS from the start; false: STARTTLS where offered.")
    email_user: str = setting("", text, "SMTP user; empty: no login.")
    email_password: str = setting("", text, "SMTP password.", secret=True)
    email_from: str = setting("Tidings <tidings@localhost>", text, "Sender of email that names none.")
    email_timeout: int = setting(20_000, whole(100, 600_000), "Milliseconds to wait for the SMTP server.")
    email_ca_file: str = setting("", text, "Extra certificates (PEM) to trust for SMTP, such as a private authority's.")

    # sms
    sms_provider: tuple[str, ...] = setting(
        (),
        list_of("twilio", "catcher"),
        "Providers in order; unset: twilio if TWILIO_ACCOUNT_SID is set, else the catcher when embedded.",
    )
    twilio_account_sid: str = setting("", text, "Twilio account.")
    twilio_auth_token: str = setting("", text, "Twilio's token; also checks its callbacks.", secret=True)
    twilio_phone_number: str = setting("", text, "Sender of SMS, as +15551234567.")
    twilio_api_url: str = setting("https://api.twilio.com", url("http", "https"), "Twilio's API.")
    sms_timeout: int = setting(10_000, whole(100, 600_000), "Milliseconds to wait for the SMS provider.")

    # pressure on providers
    email_rate: str = setting(
        "", pace, 'Messages that each email provider is given, such as "14 per second", by all processes together.'
    )
    sms_rate: str = setting("", pace, "The same for SMS.")
    breaker_failures: int = setting(
        10,
        whole(0, 10_000),
        "Faults in a row, met by one process, after which a provider or webhook host is left alone; 0: never.",
    )
    breaker_seconds: int = setting(
        10, whole(1, 86_400), "Seconds that it is left alone at first; doubled by each probe that fails."
    )
    breaker_max_seconds: int = setting(300, whole(1, 86_400), "Seconds that it is left alone at most.")

    # webhooks
    webhook_timeout: int = setting(15_000, whole(100, 120_000), "Milliseconds a receiver has for its whole answer.")
    webhook_max_retries: int | None = setting(
        None,
        whole(0, 50),
        "With WEBHOOK_RETRY_DELAY: retries after the first attempt (default 5); alone: cuts the default schedule.",
    )
    webhook_retry_delay: int | None = setting(
        None,
        whole(1, 86_400_000),
        "Milliseconds before the first retry, doubling; unset: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h.",
    )
    webhook_allowed_cidrs: tuple[str, ...] = setting(
        (), cidrs, "Private ranges that webhooks may reach, as 10.0.0.0/8,192.168.1.0/24; embedded: loopback is added."
    )

    # limits
    max_body_bytes: int = setting(1_048_576, whole(1_024, 104_857_600), "Largest request body.")
    max_send_body_bytes: int = setting(
        26_214_400, whole(1_024, 104_857_600), "Largest body of /api/send (attachments) and of event batches."
    )
    max_recipients: int = setting(10_000, whole(1, 100_000), "Most recipients of one event.")
    rate_limit_write: str = setting("6000 per minute", rate, "Requests that change something, per API key.")
    rate_limit_events: str = setting("60000 per minute", rate, "Posts of events, per API key.")
    rate_limit_send: str = setting("6000 per minute", rate, "Direct sends and tests, per API key.")
    rate_limit_read: str = setting("12000 per minute", rate, "Requests that only read, per API key.")
    rate_limit_public: str = setting("600 per minute", rate, "Requests without a key, per address.")
    rate_limit_callbacks: str = setting("12000 per minute", rate, "Providers' callbacks, per address.")
    idempotency_hours: int = setting(24, whole(1, 720), "How long an Idempotency-Key is remembered.")
    dedupe_window: int = setting(
        86_400, whole(1, 2_592_000), "Seconds for which an event's dedupe key is remembered if the event does not say."
    )
    max_backlog: int = setting(
        5_000_000,
        whole(1, 1_000_000_000),
        "Most events and deliveries that may wait in a lane and more urgent ones; beyond it those are refused (503) "
        "whose share is used up.",
    )
    max_backlog_transactional: int = setting(
        10_000_000, whole(1, 1_000_000_000), "The same for the transactional lane alone."
    )
    max_database_delay: int = setting(
        2_000,
        whole(100, 600_000),
        "Milliseconds that the database may take to read one row; while it takes longer, requests are refused (503).",
    )

    # retention
    keep_events_days: int = setting(365, whole(0, 36_500), "Days that events and their deliveries are kept; 0: always.")
    keep_attempts_days: int = setting(90, whole(0, 36_500), "Days that attempts and webhook logs are kept; 0: always.")
    keep_contents_days: int = setting(30, whole(0, 36_500), "Days that rendered contents are kept; 0: always.")
    keep_notifications_days: int = setting(365, whole(0, 36_500), "Days that in-app notifications are kept; 0: always.")
    keep_read_notifications_days: int = setting(
        90, whole(0, 36_500), "Days after being read that in-app notifications are kept; 0: as the others."
    )

    @property
    def embedded(self) -> bool:
        """Web, worker and sweeps in one process, on SQLite, without Redis."""
        return not self.redis_url

    @property
    def lanes(self) -> dict[str, int]:
        """How many threads of a worker process each lane has that it serves.

        A share of `worker_threads`, the more urgent before the less, at least one; or what `worker_lanes` says.
        """
        shares = {lane: max(1, (self.worker_threads + 2 - place) // 3) for place, lane in enumerate(LANES)}
        return dict(self.worker_lanes) or shares

    @property
    def unserved_lanes(self) -> list[str]:
        """The lanes that a worker process does not serve."""
        return [lane for lane in LANES if lane not in self.lanes]

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return self.host == "localhost" or self.host == "::1" or self.host.startswith("127.")

    @property
    def base_url(self) -> str:
        """Where links and callbacks point; never made from a request's Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"

    @property
    def catches(self) -> bool:
        """Whether the local catcher may stand in for email and SMS providers."""
        return self.embedded and self.loopback

    @property
    def email_providers(self) -> tuple[str, ...]:
        """Names of the email providers, in order."""
        return self.email_service or (("smtp",) if self.email_host else ("catcher",) if self.catches else ())

    @property
    def sms_providers(self) -> tuple[str, ...]:
        """Names of the SMS providers, in order."""
        return self.sms_provider or (("twilio",) if self.twilio_account_sid else ("catcher",) if self.catches else ())

    @classmethod
    def from_env(cls, environ: Mapping[str, str], env_file: Path | None = None) -> Settings:
        """Read `environ`, and below it the file `env_file` if it exists. Raises SettingsError with every complaint."""
        complaints: list[str] = []
        given = _from_file(env_file, complaints) if env_file and env_file.is_file() else {}
        given.update(environ)
        values: dict[str, Any] = {}
        for item in fields(cls):
            name = item.name.upper()
            try:
                text = _given_text(given, name, secret=item.metadata["secret"])
                if text:
                    values[item.name] = item.metadata["parse"](text)
            except ValueError as error:
                shown = "" if item.metadata["secret"] else f" {given.get(name, '')!r}"
                complaints.append(f"{name}:{shown} {error}")
        settings = cls(**values)
        complaints += contradictions(settings, values)
        if complaints:
            raise SettingsError(complaints)
        return settings


def _from_file(path: Path, complaints: list[str]) -> dict[str, str]:
    """What a `.env` file gives; a line that cannot be read is a complaint, not a default."""
    try:
        content = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        complaints.append(f"{path.name}: cannot be read ({type(error).__name__})")
        return {}
    complaints += [
        f"{path.name}: line {binding.original.line} cannot be read"
        for binding in parse_stream(StringIO(content))
        if binding.error
    ]
    return {name: value or "" for name, value in dotenv_values(stream=StringIO(content)).items()}


def _given_text(given: Mapping[str, str], name: str, *, secret: bool) -> str:
    """The text of one setting; of a secret also from the file that NAME_FILE names."""
    path = given.get(f"{name}_FILE", "") if secret else ""
    if path and given.get(name):
        raise ValueError(f"is given twice, also as {name}_FILE")
    if not path:
        return given.get(name, "").strip()
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read from the file of {name}_FILE ({error.__class__.__name__})") from None
