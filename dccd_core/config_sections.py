"""The sections of config.yml, their keys and defaults."""

from typing import Any, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from dccd_core.config_fields import (
    Channels,
    ExchangeName,
    Folder,
    HttpUrl,
    Moment,
    Pairs,
    Real,
    Schedule,
    SecretUrl,
    SocketUrl,
    Span,
    TradesExchangeName,
    Whole,
    did_you_mean,
    refuse,
)
from dccd_core.models import Channel
from dccd_core.moments import find_zone


class Section(BaseModel):
    """A mapping of the file. Each field's description ends the sentences `must be …`, `write …`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, values: Any) -> Any:
        """A key whose every line below is commented out is null: it has its default then."""
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {
            key: value for key, value in values.items() if value is not None or key not in fields
        }


class Settings(Section):
    """Where data goes and how people's dates are read.

    `ui_host` and `ui_port` are where `dccd start` serves Dagster's UI, `stream_port` is where the
    stream service serves /health and /metrics. `ui_auth_token` is read for the sake of dccd 2.4's
    files and ignored with a warning: Dagster's UI has no login.
    """

    data_path: Folder = Field(description="a folder, absolute or relative to this file")
    timezone: str = Field(
        default="local", description="local, UTC or an IANA name, as Europe/Paris"
    )
    ui_host: str = Field(default="127.0.0.1", min_length=1, description="a host name or address")
    ui_port: Whole = Field(default=3000, ge=1, le=65_535, description="a port from 1 to 65535")
    stream_port: Whole = Field(default=8710, ge=1, le=65_535, description="a port from 1 to 65535")
    ui_auth_token: SecretStr | None = Field(default=None, description="text or null; it is ignored")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value != "local":
            try:
                find_zone(value)
            except LookupError as error:
                why = f"must be {cls.model_fields['timezone'].description}"
                raise refuse(why, did_you_mean(value, available_timezones())) from error
        return value


class Remote(Section):
    """A place for copies of the data."""

    provider: Literal["rclone"] = Field(default="rclone", description="rclone")
    # written out, as :webdav,pass=…:path, it may hold a password
    remote: str = Field(
        pattern=r"^[^-\s]", repr=False, description="an rclone remote and path, as nas:crypto"
    )


def _days() -> Any:
    return Field(default=None, ge=7, description="null or a whole number of days, 7 or more")


class Retention(Section):
    """After how many days files that every remote has are removed here, by channel; null: never.

    A file's age is counted from the end of its period.
    """

    ohlc: Whole | None = _days()
    trades: Whole | None = _days()
    book: Whole | None = _days()
    book_deltas: Whole | None = _days()
    live_ohlc: Whole | None = _days()

    def days(self, channel: Channel) -> int | None:
        """Those of a channel."""
        found: int | None = getattr(self, channel)
        return found

    @property
    def wanted(self) -> bool:
        """Whether anything is to be removed."""
        return any(self.days(channel) is not None for channel in Channel)


class Storage(Section):
    """Copies of the data elsewhere. `local_path` is dccd 2.4's: empty, or the same as data_path."""

    local_path: str = Field(default="", description="empty: data is kept in settings.data_path")
    remotes: tuple[Remote, ...] = Field(default=(), description="a list of remotes")
    sync_interval: Whole = Field(default=3_600, ge=0, description="whole seconds, 0 or more")
    retention: Retention = Field(
        default=Retention(), description="a mapping of channels to days, as book: 90"
    )


class HistoryJob(Section):
    """The past of some pairs, from `start` (null: since listing) until now."""

    exchange: ExchangeName = Field(description="an exchange's name, as binance")
    pairs: Pairs = Field(description="a list of one pair or more, as [BTC/USDT]")
    max_retries: Whole = Field(default=3, ge=1, le=10, description="a whole number from 1 to 10")
    retry_delay: Real = Field(
        default=2.0, ge=0, allow_inf_nan=False, description="seconds, 0 or more"
    )
    start: Moment | None = Field(
        default=None,
        description="null or a moment: 2024-01-01, 2024-01-01 12:00 or 2024-01-01T12:00:00Z",
    )
    schedule: Schedule | None = Field(
        default=None, description="null, off or five cron fields in quotes, as '5 * * * *' (UTC)"
    )


class HistoJob(HistoryJob):
    """Candles. `span` is in seconds."""

    span: Span = Field(description="seconds (3600) or a label (1h)")
    format: Literal["parquet"] = Field(
        default="parquet",
        description="parquet: no other format is written (dccd 2.4 ignored this key)",
    )


class TradesJob(HistoryJob):
    """Trades, a file a day."""

    exchange: TradesExchangeName = Field(description="an exchange's name, as binance")


class StreamJob(Section):
    """Live channels of some pairs. `time_step`: seconds between books and of a live candle.

    `depth` is how many levels a side a stored book has. `stale_after`: seconds without a new row
    after which somebody is told; null: by how often rows came of late.
    """

    exchange: ExchangeName = Field(description="an exchange's name, as binance")
    pairs: Pairs = Field(description="a list of one pair or more, as [BTC/USDT]")
    channels: Channels = Field(description="a list of one channel or more, as [trades]")
    time_step: Whole = Field(default=60, gt=0, description="whole seconds, 1 or more")
    depth: Whole = Field(default=20, gt=0, description="a whole number of levels, 1 or more")
    stale_after: Whole | None = Field(
        default=None, ge=60, description="null or whole seconds, 60 or more"
    )

    @field_validator("channels")
    @classmethod
    def _each_once(cls, value: tuple[Channel, ...]) -> tuple[Channel, ...]:
        if len(set(value)) < len(value):
            raise refuse("name each channel once")
        return value


class Alerts(Section):
    """Where incidents are told, and after how many failures in a row.

    `digest` is when a word is sent although nothing is wrong: silence would be an alarm then.
    """

    webhook_url: SecretUrl | None = Field(
        default=None, description="a URL that begins with https://"
    )
    max_consecutive_errors: Whole = Field(default=3, ge=1, description="a whole number, 1 or more")
    digest: Schedule = Field(
        default="off", description="off or five cron fields in quotes, as '0 7 * * *' (UTC)"
    )


class ExchangeSettings(Section):
    """How one exchange is reached. `requests` is the part of its request budget that we use.

    `archives`: files that it publishes are taken before its REST interface is asked.
    """

    rest_url: HttpUrl | None = Field(default=None, description="a URL that begins with https://")
    ws_url: SocketUrl | None = Field(default=None, description="a URL that begins with wss://")
    archive_url: HttpUrl | None = Field(default=None, description="a URL that begins with https://")
    proxy: SecretUrl | None = Field(
        default=None, description="an http:// or https:// URL of a proxy"
    )
    requests: Real = Field(default=1.0, ge=0.01, le=1, description="a fraction from 0.01 to 1")
    archives: bool = Field(default=True, strict=True, description="true or false")

    @property
    def files(self) -> bool:
        """Whether published files are used: what stands in for an exchange does not publish what
        the exchange does."""
        return self.archives and bool(self.archive_url or not self.rest_url)
