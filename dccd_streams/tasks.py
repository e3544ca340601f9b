"""A task: one pair of a job and its channels, and the feeds that it needs."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from dccd_core.config import Config
from dccd_core.config_sections import StreamJob
from dccd_core.exchanges import load
from dccd_core.exchanges.base import Instrument
from dccd_core.exchanges.live import Live, Subscription
from dccd_core.models import Channel, Series, Symbol, span_label
from dccd_core.stream_status import StreamStatus
from dccd_streams.book_feed import BookFeed
from dccd_streams.feed import Feed
from dccd_streams.timing import Timing

_MICROSECOND = 1e-6
_AS_IT_IS = ("live", "put_aside", "stopped")  # states that are no waiting for another


@dataclass(frozen=True, slots=True)
class Output:
    """A series to write, and the channel and span of the feed that it is made of."""

    series: Series
    channel: Channel
    span: int = 0


@dataclass(slots=True, eq=False)
class Task:
    """A pair of a job that is to run. `outputs` are attached once its market is known.

    What is not there for longer than `patience` seconds is silent, whatever keeps it away; `well`
    is when it was there last.
    """

    key: str
    job: StreamJob
    pair: str
    channels: tuple[Channel, ...]
    attached: list[tuple[Feed, Series]] = field(default_factory=list)
    problem: str | None = None
    refused: bool = False
    stopped: bool = False
    patience: float = Timing().down
    well: float = field(default_factory=time.monotonic)

    @property
    def symbol(self) -> Symbol:
        return Symbol.parse(self.pair)

    def does(self, job: StreamJob) -> bool:
        """Whether a job would write of its channels what this one writes."""
        books = Channel.BOOK in self.channels
        timed = books or Channel.OHLC in self.channels
        return (not timed or self.job.time_step == job.time_step) and (
            not books or self.job.depth == job.depth
        )

    def outputs(self) -> list[Output]:
        """What is written: candles from the exchange's own feed where it has that span."""
        exchange, symbol = self.job.exchange, self.symbol
        found = []
        for channel in self.channels:
            if channel is not Channel.OHLC:
                base = Channel.BOOK if channel is Channel.BOOK_DELTAS else channel
                found.append(Output(Series(exchange, channel, symbol), base))
                continue
            span = self.job.time_step
            series = Series(exchange, Channel.LIVE_OHLC, symbol, span)
            live = load(exchange)
            own = isinstance(live, Live) and span in live.live_spans
            found.append(Output(series, Channel.OHLC if own else Channel.TRADES, span * own))
        return found

    def subscription(self, output: Output, instrument: Instrument, depth: int) -> Subscription:
        """What an output needs from the exchange."""
        levels = depth if output.channel is Channel.BOOK else 0
        return Subscription(instrument, output.channel, output.span, levels)

    def status(self) -> StreamStatus:
        """The task as it is now, over all its feeds."""
        feeds = list(dict.fromkeys(feed for feed, _ in self.attached))
        tallies = [feed.tally for feed in feeds]
        rows = [tally.last_row for tally in tallies if tally.last_row is not None]
        heard = [tally.last_message for tally in tallies if tally.last_message is not None]
        lags = [tally.lag for tally in tallies if tally.lag is not None]
        silent = [tally.silent_since for tally in tallies if tally.silent_since is not None]
        problems = [tally.problem for tally in tallies if tally.problem]
        state, now = self._state(feeds), time.monotonic()
        if state in _AS_IT_IS:
            self.well = now
        elif now - self.well > self.patience:
            state = "silent"
            silent = silent or [time.time() - (now - self.well)]
        return StreamStatus(
            key=self.key,
            exchange=self.job.exchange,
            pair=self.pair,
            channels=[str(channel) for channel in self.channels],
            time_step=self.job.time_step,
            running=not self.stopped,
            state=state,
            problem=self.problem or "; ".join(dict.fromkeys(problems)) or None,
            last_message=max(heard) * _MICROSECOND if heard else None,
            last_row=max(rows) * _MICROSECOND if rows else None,
            rows_today=sum(tally.rows_today for tally in tallies),
            rows=sum(tally.rows for tally in tallies),
            reconnects=max((tally.reconnects for tally in tallies), default=0),
            gaps=sum(tally.gaps for tally in tallies),
            lost=sum(tally.lost for tally in tallies),
            healed=sum(tally.healed for tally in tallies),
            lag=max(lags) if lags else None,
            silent_since=min(silent) if silent else None,
            series=[str(output.series) for output in self.outputs()],
        )

    def _state(self, feeds: list[Feed]) -> str:
        if self.stopped:
            return "stopped"
        if self.refused or any(feed.tally.refused for feed in feeds):
            return "put_aside"
        if not feeds:
            return "starting"
        if any(feed.tally.silent_since is not None for feed in feeds):
            return "silent"
        if not all(feed.live for feed in feeds):
            return "connecting"
        waits = any(isinstance(feed, BookFeed) and not feed.synchronised for feed in feeds)
        return "synchronising" if waits else "live"


def stopped_status(key: str, job: StreamJob, pair: str) -> StreamStatus:
    """A configured task that does not run."""
    return Task(key, job, pair, job.channels, stopped=True).status()


def task_key(job: StreamJob, pair: str, channels: Iterable[Channel]) -> str:
    """What a task is called: binance_BTC_USDT_trades_book.

    Candles of another length than a minute are another task, so the length is in the key.
    """
    names = list(channels)
    symbol = Symbol.parse(pair).slug.replace("-", "_")
    span = [span_label(job.time_step)] if Channel.OHLC in names and job.time_step != 60 else []
    return "_".join([job.exchange, symbol, *map(str, names), *span])


def configured(config: Config) -> list[tuple[str, StreamJob, str]]:
    """Each configured task: its key, its job and its pair, in the file's order."""
    return [
        (task_key(job, pair, job.channels), job, pair)
        for job in config.stream_jobs
        for pair in job.pairs
    ]


def same(one: StreamJob, other: StreamJob) -> bool:
    """Whether two jobs ask the same of a pair, whichever other pairs they name."""
    return one == other.model_copy(update={"pairs": one.pairs})
