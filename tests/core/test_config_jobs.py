"""Jobs of trades, spans that exchanges lack, and the series that others are built from."""

from pathlib import Path

import pytest

from dccd_core.config import Config, ConfigError, parse_config
from dccd_core.config_edit import add_pair
from dccd_core.exchanges import load, load_all
from dccd_core.exchanges.base import Exchange
from dccd_core.exchanges.trades import TradesHistory
from dccd_core.lineage import is_derived, source_of, source_span, sources_first
from dccd_core.models import DAY, WEEK, Channel, Series

HERE = Path("/here/config.yml")


def config(*lines: str) -> Config:
    return parse_config("\n".join(["settings: {data_path: data, timezone: UTC}", *lines]), HERE)


def problem(*lines: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config(*lines)
    return str(caught.value).removeprefix("/here/config.yml:")


def names(series: object) -> list[str]:
    return [str(one) for one in series]  # type: ignore[attr-defined]


def test_trades_jobs_are_series_of_their_own() -> None:
    found = config(
        "histo_jobs: [{exchange: binance, pairs: [BTC/USDT], span: 1h}]",
        "trades_jobs:",
        "  - {exchange: binance, pairs: [BTC/USDT, ETH/USDT], start: 2026-01-01, max_retries: 7}",
    )
    assert names(found.series()) == [
        "binance/ohlc/1h/BTC-USDT",
        "binance/trades/BTC-USDT",
        "binance/trades/ETH-USDT",
    ]
    trades = Series.parse("binance/trades/ETH-USDT")
    assert (found.job_of(trades).max_retries, found.job_of(trades).schedule) == (7, None)
    assert found.start_of(trades) == 1_767_225_600_000_000


def test_a_file_may_have_trades_alone() -> None:
    found = config("trades_jobs: [{exchange: binance, pairs: [BTC/USDT]}]")
    assert names(found.series()) == ["binance/trades/BTC-USDT"]


def test_trades_of_one_pair_twice_are_told() -> None:
    said = problem(
        "trades_jobs:",
        "  - {exchange: binance, pairs: [BTC/USDT]}",
        "  - {exchange: binance, pairs: [BTC/USDT]}",
    )
    assert "binance/trades/BTC-USDT is already in trades_jobs[0].pairs[0]" in said


def test_history_and_stream_of_the_same_trades_go_together() -> None:
    config(
        "trades_jobs: [{exchange: binance, pairs: [BTC/USDT]}]",
        "stream_jobs: [{exchange: binance, pairs: [BTC/USDT], channels: [trades]}]",
    )


def test_a_span_is_no_key_of_trades() -> None:
    said = problem("trades_jobs: [{exchange: binance, pairs: [BTC/USDT], span: 1h}]")
    assert "trades_jobs[0].span: no such key" in said


def test_an_exchange_without_past_trades_says_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from dccd_core import config_fields

    class Quiet(Exchange):
        name, title, spans = "quiet", "Quiet", {60: "1m"}
        channels = frozenset({Channel.TRADES})

    Quiet.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
    known = {**load_all(), "quiet": Quiet()}  # type: ignore[abstract]
    monkeypatch.setattr(config_fields, "load_all", lambda: known)
    said = problem("trades_jobs: [{exchange: quiet, pairs: [BTC/USDT]}]")
    assert said == (
        "2: trades_jobs[0].exchange: quiet: Quiet serves no past trades; record them live: "
        "stream_jobs with channels: [trades]"
    )


def test_a_span_that_the_exchange_lacks_is_built_from_the_longest_that_fits() -> None:
    found = config(
        "histo_jobs: [{exchange: binance, pairs: [BTC/USDT], span: 10h, start: 2024-01-01}]"
    )
    ten, two = found.series()
    assert names([ten, two]) == ["binance/ohlc/10h/BTC-USDT", "binance/ohlc/2h/BTC-USDT"]
    assert source_of(ten) == two
    assert source_of(two) is None
    assert is_derived(ten)
    assert not is_derived(two)
    assert list(found.configured) == [ten]
    assert found.start_of(two) == found.start_of(ten)
    assert sources_first([ten, two]) == [two, ten]


@pytest.mark.parametrize(
    ("spans", "span", "source"),
    [
        ([60, 300, 3_600], 14_400, 3_600),
        ([60, 300, 3_600], 900, 300),
        ([DAY], WEEK, DAY),
        ([3 * DAY, DAY], 3 * WEEK, DAY),  # weeks begin on Mondays, three days do not
        ([WEEK], 2 * WEEK, WEEK),
        ([60], 61 * 60, None),  # a slip of the pen
        ([60], 90, None),
        ([WEEK], 53 * WEEK, None),  # no year's file could hold it
        ([3_600], 3_600, None),
    ],
)
def test_the_source_of_a_span(spans: list[int], span: int, source: int | None) -> None:
    assert source_span(spans, span) == source


def test_a_source_begins_as_early_as_what_is_built_from_it() -> None:
    found = config(
        "histo_jobs:",
        "  - {exchange: binance, pairs: [BTC/USDT], span: 10h, start: 2020-01-01}",
        "  - {exchange: binance, pairs: [ETH/USDT], span: 10h}",
        "  - {exchange: binance, pairs: [BTC/USDT, ETH/USDT], span: 2h, start: 2024-01-01}",
    )
    assert found.start_of(Series.parse("binance/ohlc/2h/BTC-USDT")) == 1_577_836_800_000_000
    assert found.start_of(Series.parse("binance/ohlc/2h/ETH-USDT")) is None
    assert len(found.series()) == 4


def test_kraken_s_candles_have_their_trades_as_a_source() -> None:
    found = config(
        "histo_jobs:",
        "  - {exchange: kraken, pairs: [BTC/USD], span: 1w, start: 2024-01-01}",
        "  - {exchange: kraken, pairs: [BTC/USD], span: 1h, start: 2025-01-01}",
    )
    trades = Series.parse("kraken/trades/BTC-USD")
    assert names(found.series()) == [
        "kraken/ohlc/1w/BTC-USD",
        "kraken/ohlc/1h/BTC-USD",
        "kraken/ohlc/1d/BTC-USD",
    ]
    assert trades in found.jobs
    assert trades not in found.series()
    assert found.start_of(trades) == 1_704_067_200_000_000
    assert load("kraken").candles_depth == 720
    assert isinstance(load("kraken"), TradesHistory)


def test_configured_trades_begin_where_they_are_told_to() -> None:
    found = config(
        "histo_jobs: [{exchange: kraken, pairs: [BTC/USD], span: 1h, start: 2024-01-01}]",
        "trades_jobs: [{exchange: kraken, pairs: [BTC/USD], start: 2026-01-01}]",
    )
    assert found.start_of(Series.parse("kraken/trades/BTC-USD")) == 1_767_225_600_000_000


def test_a_source_that_is_not_configured_can_be_added(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(
        "settings: {data_path: data}\n"
        "histo_jobs:\n  - {exchange: binance, pairs: [BTC/USDT], span: 10h}\n"
    )
    edit = add_pair(path, "binance", ["BTC/USDT"], "2h")
    assert names(edit.changed) == ["binance/ohlc/2h/BTC-USDT"]


def test_books_have_a_depth_and_archives_can_be_switched_off() -> None:
    found = config(
        "stream_jobs: [{exchange: binance, pairs: [BTC/USDT], channels: [book, book_deltas]}]",
        "exchanges: {binance: {archives: false}}",
    )
    assert found.stream_jobs[0].depth == 20
    assert found.exchange_settings("binance").archives is False
    assert found.exchange_settings("okx").archives is True
    assert "must be true or false" in problem(
        "stream_jobs: [{exchange: binance, pairs: [BTC/USDT], channels: [book]}]",
        "exchanges: {binance: {archives: 1}}",
    )


@pytest.mark.parametrize(
    ("settings", "missing"),
    [("archives: false", "archives: true"), ("rest_url: http://127.0.0.1:1", "archive_url")],
)
def test_trades_that_only_published_files_have_need_them(settings: str, missing: str) -> None:
    jobs = "trades_jobs: [{exchange: bybit, pairs: [BTC/USDT]}]"
    assert config(jobs).series()
    said = problem(jobs, f"exchanges: {{bybit: {{{settings}}}}}")
    assert "trades_jobs[0].exchange: bybit: only its published files have past trades" in said
    assert said.endswith(f"set exchanges.bybit.{missing}")
    assert config(jobs.replace("bybit", "okx"), f"exchanges: {{okx: {{{settings}}}}}").series()


def test_people_write_ohlc_for_the_candles_of_a_stream() -> None:
    said = problem("stream_jobs: [{exchange: binance, pairs: [BTC/USDT], channels: [live_ohlc]}]")
    assert "live_ohlc: binance does not offer it without a key" in said
    assert said.endswith("it has: book, book_deltas, ohlc, trades")
