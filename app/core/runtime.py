"""What the work needs besides its arguments, made once by `create_app` and handed down."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from app.broker import Bell
from app.clock import Clock
from app.config import Settings
from app.core.channels import Channels
from app.core.templating import FileTemplates
from app.crypto import Vault
from app.db import Database


@dataclass(frozen=True, slots=True)
class Runtime:
    """The running service's parts. Tests make one with a private database and a clock of their own.

    `stopping` is set when this process is to end: nothing is begun any more, and what is not begun is given back.
    """

    settings: Settings
    db: Database
    vault: Vault
    clock: Clock
    bell: Bell
    channels: Channels
    files: FileTemplates
    stopping: threading.Event = field(default_factory=threading.Event)
