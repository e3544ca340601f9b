"""The webhook: incidents become messages, and messages wait until somebody takes them.

Nothing here raises for the sake of a webhook, and its address is a secret: no message, log or
error of ours has it.
"""

import logging
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Protocol
from urllib.parse import urlsplit

import requests

from dccd_core.config import Config
from dccd_core.cron import latest_tick
from dccd_core.incidents import Change, Condition, Register, State, step
from dccd_core.messages import LONGEST, message
from dccd_core.store import files

log = logging.getLogger(__name__)

TIMEOUT = 5.0
# A webhook takes about one message a second; the rest goes with the next tick.
AT_ONCE = 10
RETRY = 30.0
# Answers about a message and not about us: Discord's to more than 2,000 characters.
UNWANTED = (400, 413, 422)


class Unwanted(Exception):
    """The webhook is there and does not take this message."""


class Webhook:
    """A Slack webhook, or one of Discord."""

    def __init__(self, url: str) -> None:
        self._url = _slack_way(url)
        logging.getLogger("urllib3.connectionpool").addFilter(_not_of_paths(self._url))

    def send(self, text: str) -> str | None:
        """Post one message; why it was not taken, without the address, or None. Unwanted if that
        is because of the message."""
        try:
            answer = requests.post(
                self._url,
                json={"text": text},
                timeout=TIMEOUT,
                allow_redirects=False,
            )
        except (OSError, ValueError) as error:  # requests lets urllib3's own through
            return f"the webhook does not answer: {type(error).__name__}"
        if answer.status_code in UNWANTED:
            raise Unwanted(f"HTTP {answer.status_code}")
        return None if answer.ok and answer.status_code < 300 else f"HTTP {answer.status_code}"


def _slack_way(url: str) -> str:
    """Discord understands Slack's messages at an address of its own."""
    parts = urlsplit(url)
    discord = (parts.hostname or "").endswith(("discord.com", "discordapp.com"))
    return f"{url.rstrip('/')}/slack" if discord and not parts.path.endswith("/slack") else url


@cache
def _not_of_paths(url: str) -> Callable[[logging.LogRecord], bool]:
    """urllib3 writes the path of each request into its debugging log.

    One filter for an address: a logger keeps each filter for ever, but takes the same one once.
    """
    path = urlsplit(url).path
    return lambda record: len(path) < 2 or path not in record.getMessage()


class Sender(Protocol):
    """Takes messages."""

    def send(self, text: str) -> str | None:
        """Why a message was not taken, or None; Unwanted."""


class Alerter:
    """Keeps the incidents of a data path and tells of them; without a webhook it only keeps."""

    def __init__(self, config: Config, sender: Sender | None = None) -> None:
        url, self._config = config.alerts.webhook_url, config
        self._sender = sender or (Webhook(url.get_secret_value()) if url else None)
        self._register = Register(config.settings.data_path)
        self._ui = ui_address(config)

    def report(
        self,
        conditions: Iterable[Condition],
        kinds: Collection[str],
        now: float,
        *,
        unknown: Collection[str] = (),
        ended: dict[str, str] | None = None,
    ) -> list[Change]:
        """Take what an observer of these kinds sees now; open, close, remind, and tell."""
        with files.lock(self._register.lock_path):
            state = self._register.read()
            changes = step(state, conditions, kinds, now, unknown=unknown, ended=ended)
            self._say(state, [message(change, self._ui, now) for change in changes], now)
        for change in changes:
            for one in change.incidents:
                log.warning("incident %s: %s", change.what, one.last.key)
        return changes

    def digest(self, cron: str | None, now: float, make: Callable[[State], str]) -> bool:
        """Send the digest if its time has come; whether it had."""
        with files.lock(self._register.lock_path):
            state = self._register.read()
            tick = latest_tick(cron, datetime.fromtimestamp(now, UTC)).timestamp() if cron else now
            due = state.digest is not None and cron is not None and state.digest < tick
            if due or state.digest is None or cron is None:
                state.digest = now
                self._say(state, [make(state)] if due else [], now)
        return due

    def state(self) -> State:
        """What is open now."""
        return self._register.read()

    def note_disk(self, low: bool) -> None:
        """Remember whether the disk is called low."""
        with files.lock(self._register.lock_path):
            state = self._register.read()
            if state.low_disk != low:
                state.low_disk = low
                self._register.write(state)

    def _say(self, state: State, texts: list[str], now: float) -> None:
        """Keep the state, then send what waits: killed in between, it is sent later."""
        if self._sender is None:
            state.pending = []
            self._register.write(state)
            return
        state.pending += [text[:LONGEST] for text in texts]
        self._register.write(state)
        if state.refused is not None and 0 <= now - state.refused < RETRY:
            return
        if state.pending:  # what cannot be noted as told would be told again and again
            self._register.write(state, anyway=True)
        for _ in range(min(AT_ONCE, len(state.pending))):
            text, refused = state.pending[0], None
            try:
                problem = self._sender.send(text)
            except Unwanted as error:
                # the others are not to wait for it; its first line may be taken
                refused, problem = now, None
                state.pending.append(text.partition("\n")[0])
                log.warning("the webhook refuses a message, %s: %s", error, text)
            state.refused = now if problem else refused
            if problem:
                self._register.write(state)
                log.warning("%d alerts wait: %s", len(state.pending), problem)
                return
            state.pending.pop(0)
            self._register.write(state)


def ui_address(config: Config) -> str:
    """Where a link leads that opens Dagster's UI."""
    host = config.settings.ui_host
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104
    return f"http://{shown}:{config.settings.ui_port}"


def send_test(config: Config) -> str | None:
    """Send one message; why it did not arrive, or None. ValueError if there is no webhook."""
    url = config.alerts.webhook_url
    if url is None:
        raise ValueError("alerts.webhook_url is not set: there is nobody to tell")
    try:
        return Webhook(url.get_secret_value()).send(
            ":white_check_mark: *dccd*: this is a test. Alerts arrive here."
        )
    except Unwanted as error:
        return str(error)
