"""What is wrong with settings that are each right by themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from app.config_values import holds_certificates
from app.tracing import is_installed

if TYPE_CHECKING:
    from app.config import Settings

_ADDRESS = r"(?:[^<>\x00-\x1f]*<[^\s<>@]+@[^\s<>@]+>|[^\s<>@]+@[^\s<>@]+)"
_Rules = list[tuple[bool, str]]  # (whether it is wrong, the complaint)


def contradictions(settings: Settings, given: Mapping[str, Any]) -> list[str]:
    """A sentence for each. `given`: those that were set, by their fields' names."""
    rules = _about_running(settings, given) + _about_sending(settings, given)
    return [complaint for wrong, complaint in rules if wrong]


def _about_running(s: Settings, given: Mapping[str, Any]) -> _Rules:
    rules: _Rules = []
    postgres = s.database_url.startswith("postgresql")
    rules.append((postgres and not s.redis_url, "REDIS_URL: is needed with a PostgreSQL DATABASE_URL"))
    rules.append(
        (bool(s.redis_url) and not postgres, "DATABASE_URL: must name a PostgreSQL database when REDIS_URL is set")
    )
    rules.append(
        (
            bool(s.redis_url) and not s.secret_key and "secret_key" not in given,
            "SECRET_KEY: is needed outside embedded mode",
        )
    )
    # A reading that is given up sooner than it counts as slow would never do so.
    rules.append(
        (
            postgres and 2 * s.max_database_delay > s.database_timeout,
            "MAX_DATABASE_DELAY: must be at most half of DATABASE_TIMEOUT",
        )
    )
    left_out = s.unserved_lanes
    rules.append(
        (
            s.embedded and bool(left_out),
            f"WORKER_LANES: leaves out {', '.join(left_out)}, and embedded there is no other process to serve them",
        )
    )
    rules.append(
        (
            bool(s.otel_exporter_otlp_endpoint) and not is_installed(),
            "OTEL_EXPORTER_OTLP_ENDPOINT: needs OpenTelemetry: pip install 'tidings[tracing]'",
        )
    )
    rules.append((bool(s.secret_key) and len(s.secret_key) < 32, "SECRET_KEY: is shorter than 32 characters"))
    rules.append(
        (
            bool(s.bootstrap_api_key) and not re.fullmatch(r"tdg_(live|test)_[A-Za-z0-9]{32,200}", s.bootstrap_api_key),
            "BOOTSTRAP_API_KEY: is not tdg_live_ followed by 32 or more letters and digits",
        )
    )
    return rules


def _about_sending(s: Settings, given: Mapping[str, Any]) -> _Rules:
    rules: _Rules = []
    rules.append(
        ("smtp" in s.email_service and not s.email_host, "EMAIL_HOST: is needed when EMAIL_SERVICE names smtp")
    )
    rules.append((bool(s.email_password) and not s.email_user, "EMAIL_USER: is needed with EMAIL_PASSWORD"))
    twilio = "twilio" in s.sms_providers
    for name in ("twilio_account_sid", "twilio_auth_token", "twilio_phone_number"):
        rules.append((twilio and not getattr(s, name), f"{name.upper()}: is needed to send SMS by Twilio"))
    number = s.twilio_phone_number
    rules.append(
        (
            bool(number) and not re.fullmatch(r"\+[1-9]\d{6,14}", number),
            "TWILIO_PHONE_NUMBER: is not a number such as +15551234567",
        )
    )
    for name, providers in (("EMAIL_SERVICE", s.email_service), ("SMS_PROVIDER", s.sms_provider)):
        rules.append(
            ("catcher" in providers and not s.catches, f"{name}: the catcher works only embedded and bound to loopback")
        )
    rules.append(
        (not re.fullmatch(_ADDRESS, s.email_from), "EMAIL_FROM: is not an address such as Shop <shop@example.com>")
    )
    rules.append(
        ("email_ca_file" in given and not holds_certificates(s.email_ca_file), "EMAIL_CA_FILE: is no PEM file")
    )
    return rules
