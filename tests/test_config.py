"""Settings: read once, typed, and refused with every complaint at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import Settings, SettingsError


def complaints(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ)
    return caught.value.complaints


def test_with_nothing_set_the_service_is_embedded_and_catches_mail_and_sms() -> None:
    settings = Settings.from_env({})
    assert settings.embedded
    assert (settings.email_providers, settings.sms_providers) == (("catcher",), ("catcher",))
    assert settings.base_url == "http://127.0.0.1:8000"


def test_every_complaint_comes_at_once_and_names_its_setting() -> None:
    found = complaints(PORT="eighty", EMAIL_SECURE="maybe", REDIS_URL="redis://localhost", TWILIO_ACCOUNT_SID="AC1")
    names = {complaint.split(":")[0] for complaint in found}
    assert {"PORT", "EMAIL_SECURE", "DATABASE_URL", "SECRET_KEY", "TWILIO_AUTH_TOKEN", "TWILIO_PHONE_NUMBER"} <= names


def test_a_wrong_secret_is_not_repeated() -> None:
    (complaint,) = complaints(BOOTSTRAP_API_KEY="hunter2hunter2")
    assert "hunter2" not in complaint


def test_a_secret_may_come_from_a_file_but_not_twice(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("a secret of more than thirty-two characters\n")
    settings = Settings.from_env({"SECRET_KEY_FILE": str(file)})
    assert settings.secret_key == "a secret of more than thirty-two characters"
    assert complaints(SECRET_KEY="x" * 40, SECRET_KEY_FILE=str(file)) == [
        "SECRET_KEY: is given twice, also as SECRET_KEY_FILE"
    ]
    assert "cannot be read" in complaints(SECRET_KEY_FILE=str(tmp_path / "none"))[0]


def test_the_environment_stands_above_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("PORT=9001\nHOST=127.0.0.2\n")
    settings = Settings.from_env({"PORT": "9002"}, file)
    assert (settings.port, settings.host) == (9002, "127.0.0.2")


def test_smtp_settings_replace_the_catcher_and_production_never_catches() -> None:
    assert Settings.from_env({"EMAIL_HOST": "mail.example"}).email_providers == ("smtp",)
    production = {"DATABASE_URL": "postgresql://a@b/c", "REDIS_URL": "redis://b", "SECRET_KEY": "x" * 40}
    assert Settings.from_env(production).email_providers == ()
    assert Settings.from_env({"HOST": "0.0.0.0"}).email_providers == ()
    assert complaints(HOST="0.0.0.0", EMAIL_SERVICE="catcher")[0].startswith("EMAIL_SERVICE:")


def test_the_database_counts_as_slow_before_it_is_given_up() -> None:
    production = {"DATABASE_URL": "postgresql://a@b/c", "REDIS_URL": "redis://b", "SECRET_KEY": "x" * 40}
    half = production | {"DATABASE_TIMEOUT": "6000", "MAX_DATABASE_DELAY": "3000"}
    assert Settings.from_env(half).max_database_delay == 3000
    (complaint,) = complaints(**(half | {"MAX_DATABASE_DELAY": "3001"}))
    assert complaint == "MAX_DATABASE_DELAY: must be at most half of DATABASE_TIMEOUT"


def test_secrets_are_not_shown_when_settings_are_printed() -> None:
    assert "hunter2" not in repr(Settings(email_password="hunter2", email_user="me"))


@given(st.text(max_size=30))
def test_any_text_as_a_number_is_a_number_or_a_complaint(text: str) -> None:
    try:
        settings = Settings.from_env({"PORT": text})
    except SettingsError as error:
        assert error.complaints[0].startswith("PORT:")
    else:
        assert 1 <= settings.port <= 65535


def test_a_wrong_setting_stops_the_start_without_a_stack_trace(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "PORT": "zero", "EMAIL_PORT": "-1", "DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "app.entrypoints.cli", "up"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "PORT" in done.stderr
    assert "EMAIL_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_env_file_that_cannot_be_read_is_a_complaint_and_not_a_default(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text('HOST=127.0.0.1\nPORT="80\n')
    with pytest.raises(SettingsError, match="line 2"):
        Settings.from_env({}, file)
    file.write_bytes(b"HOST=\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read"):
        Settings.from_env({}, file)


def test_a_password_is_never_part_of_a_complaint() -> None:
    found = complaints(DATABASE_URL="postgresql://app:hunter2/x@db/tidings")
    assert not any("hunter2" in complaint for complaint in found)


@pytest.mark.parametrize("sender", ["nobody", "a b@ @", "Shop <shop>", "x@y@z <a@b", "a@b\nBcc: c@d"])
def test_a_sender_that_is_no_address_is_refused(sender: str) -> None:
    assert complaints(EMAIL_FROM=sender)[0].startswith("EMAIL_FROM")


def test_certificates_that_are_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("not a certificate")
    assert complaints(EMAIL_CA_FILE=str(file)) == ["EMAIL_CA_FILE: is no PEM file"]
