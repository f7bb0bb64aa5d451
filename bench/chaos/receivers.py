"""A receiver in a process of its own: `python -m bench.chaos.receivers KIND PORT FOLDER`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bench.chaos.receiver import Receiver
from bench.chaos.receiver_http import TwilioConnection, WebhookConnection
from bench.chaos.receiver_smtp import SmtpConnection

PROTOCOLS = {"smtp": SmtpConnection, "http": WebhookConnection, "twilio": TwilioConnection}


def main() -> None:
    """Be one receiver until killed."""
    kind, port, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    asyncio.run(Receiver(kind, folder).serve(port, PROTOCOLS[kind]))


if __name__ == "__main__":
    main()
