"""Which series the configured streams write, and which live candles are made of live trades."""

from dataclasses import replace

from dccd_core.config import Config
from dccd_core.config_sections import StreamJob
from dccd_core.exchanges import load
from dccd_core.exchanges.live import Live
from dccd_core.models import Channel, Series, Symbol


def live_series(config: Config) -> dict[Series, StreamJob]:
    """Every series that the stream service writes and the job that asks for it, sorted."""
    found = {
        _series(job, channel, Symbol.parse(pair)): job
        for job in config.stream_jobs
        for pair in job.pairs
        for channel in job.channels
    }
    return dict(sorted(found.items()))


def _series(job: StreamJob, channel: Channel, symbol: Symbol) -> Series:
    if channel is Channel.OHLC:
        return Series(job.exchange, Channel.LIVE_OHLC, symbol, job.time_step)
    return Series(job.exchange, channel, symbol)


def trades_behind(series: Series) -> Series | None:
    """The live trades that a live candle is built from; None if the exchange sends the candle."""
    if series.channel is not Channel.LIVE_OHLC:
        return None
    exchange = load(series.exchange)
    if isinstance(exchange, Live) and series.span in exchange.live_spans:
        return None
    return replace(series, channel=Channel.TRADES, span=0)
