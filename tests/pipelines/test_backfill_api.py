"""`run_backfill` and `run_once`: choosing, planning, progress, stopping, and what is reported."""

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from threading import Event, Timer
from typing import Any

import dagster as dg
import pytest
from helpers import assert_sound, assert_whole, at, page_questions, truth, window
from projects import Project, materialized, observed, spoil

from dccd_core.config import Config
from dccd_core.history import Progress
from dccd_core.models import Channel, Series, Symbol, Window
from dccd_pipelines import HealthMonitor, run_backfill, run_once
from dccd_pipelines.report import Report
from dccd_sandbox import Rule, Sandbox

BTC = Series("binance", Channel.OHLC, Symbol("BTC", "USDT"), 86_400)
ETH = replace(BTC, symbol=Symbol("ETH", "USDT"))
BTC_4H, ETH_4H = replace(BTC, span=14_400), replace(ETH, span=14_400)
JOBS = (
    "pairs: [BTC/USDT, ETH/USDT], span: 1d, start: 2024-12-01",
    "pairs: [BTC/USDT, ETH/USDT], span: 4h, start: 2024-12-01",
)
END = "2025-01-11"
WANTED = window("2024-12-01", END)


def test_a_backfill_collects_everything_once(project: Project, box: Sandbox) -> None:
    config = project.write(*JOBS)
    steps: list[Progress] = []
    plans: list[Report] = []
    report = run_backfill(config, end=END, progress=steps.append, planned=plans.append)
    assert report.ok
    assert report.failed == []
    every = [BTC, ETH, BTC_4H, ETH_4H]
    expected = {series: truth(box, series, WANTED) for series in every}
    assert report.rows == sum(frame.height for frame in expected.values())
    assert report.revised == 0
    assert len(report.runs) == 2, "one run for each exchange and span"
    for series in every:
        assert_whole(project.store, series, expected[series])

    assert plans == [report], "the caller hears of the plan"
    assert [plan.series for plan in report.plans] == every
    for plan in report.plans:
        assert plan.missing == [WANTED]
        assert plan.problem == ""
        assert plan.requests == 2  # one page for each year
        assert plan.seconds > 0
    last: dict[Series, Progress] = {}
    done = defaultdict(list)
    for step in steps:
        last[step.series] = step
        done[step.series].append(step.done)
        assert step.total == 2
    assert done == {series: [1, 2] for series in every}
    assert {series: step.rows for series, step in last.items()} == {
        series: frame.height for series, frame in expected.items()
    }

    with project.instance() as instance:
        runs = {one: instance.get_run_by_id(one) for one in report.runs}
        assert {run.status for run in runs.values() if run} == {dg.DagsterRunStatus.SUCCESS}
        assert set(materialized(instance, ETH_4H)) == {"2024", "2025"}

    box.reset()
    again = run_backfill(config, end=END)
    assert again.ok
    assert (again.rows, again.runs) == (0, [])
    assert all(plan.missing == [] and plan.requests == 0 for plan in again.plans)
    assert box.stats()["requests"] == 0
    later = run_backfill(config, pairs=["BTC/USDT"], end="2025-01-12", parallel=True)
    assert later.rows == 1 + 6
    assert len(later.runs) == 1, "parallel: one run of everything"
    assert {one["symbol"] for one in page_questions(box)} == {"BTCUSDT"}
    assert_whole(project.store, BTC, truth(box, BTC, window("2024-12-01", "2025-01-12")))


def test_series_are_chosen_by_exchange_and_pairs(project: Project, box: Sandbox) -> None:
    config = project.write(*JOBS)

    def chosen(exchange: str | None, pairs: list[str] | None) -> list[Series]:
        report = run_backfill(config, exchange=exchange, pairs=pairs, end=END, dry_run=True)
        return [plan.series for plan in report.plans]

    assert chosen(None, None) == [BTC, ETH, BTC_4H, ETH_4H]
    assert chosen("binance", ["ETH/USDT"]) == [ETH, ETH_4H]
    assert chosen(None, ["ETH/USDT", "BTC/USDT"]) == [BTC, ETH, BTC_4H, ETH_4H]
    assert page_questions(box) == [], "a plan asks for no page"
    assert project.store.existing_periods(BTC) == []
    with pytest.raises(ValueError, match=r"no exchange 'binanse'; did you mean binance\?"):
        chosen("binanse", None)
    with pytest.raises(ValueError, match=r"no pair 'BTC/USD'; did you mean BTC/USDT\?"):
        chosen(None, ["ETH/USDT", "BTC/USD"])
    with pytest.raises(ValueError, match="no pair 'XXX'; it has BTC/USDT, ETH/USDT"):
        chosen(None, ["XXX"])


def test_streams_alone_have_no_past_to_fetch(tmp_path: Path) -> None:
    job = {"exchange": "binance", "pairs": ["BTC/USDT"], "channels": ["trades"]}
    config = Config.model_validate({"settings": {"data_path": str(tmp_path)}, "stream_jobs": [job]})
    why = "no histo_jobs or trades_jobs are configured"
    for exchange in (None, "binance"):
        with pytest.raises(ValueError, match=why):
            run_backfill(config, exchange=exchange)
    with pytest.raises(ValueError, match=why):
        run_once(config)


def notes(config: Config, **options: Any) -> dict[Series, str]:
    """Why nothing is planned, by series."""
    report = run_backfill(config, dry_run=True, **options)
    assert report.ok
    assert all(plan.missing == [] for plan in report.plans if plan.note)
    return {plan.series: plan.note for plan in report.plans}


def test_what_is_not_wanted_yet_is_in_the_plan_with_its_reason(
    project: Project, box: Sandbox
) -> None:
    config = project.write(
        "pairs: [BTC/USDT], span: 1d, start: 2999-01-01",
        "pairs: [BTC/USDT], span: 4h, start: 2024-12-01",
    )
    future = "nothing yet: it starts in the future, at 2999-01-01 00:00:00+00:00"
    assert notes(config, end=END) == {BTC_4H: "", BTC: future}
    assert notes(config, start="2999-01-01") == {BTC_4H: future, BTC: future}
    assert notes(config, end="2024-12-01", pairs=["BTC/USDT"]) == {
        BTC_4H: "nothing: it starts at 2024-12-01 00:00:00+00:00, not before the end",
        BTC: future,
    }
    now = datetime.now(UTC)
    [note] = set(notes(config, start=now).values())
    assert note.startswith("nothing yet: no candle has closed since ")
    done = run_backfill(config, end=END)
    assert done.ok
    assert done.rows == project.store.load(BTC_4H).height > 0


def test_a_range_before_the_listing_is_told_so_and_not_up_to_date(
    project: Project, box: Sandbox
) -> None:
    config = project.write("pairs: [BTC/USDT], span: 1d, start: 2024-12-01")
    found = notes(config, start="2010-01-01", end="2011-01-01")
    assert found == {BTC: "before listing: the first candle opens at 2019-01-01T00:00:00Z"}
    assert notes(config, start="2018-12-01", end="2019-01-03") == {BTC: ""}


@pytest.mark.parametrize(
    ("pair", "hint"),
    [
        ("BTC/USD", "did you mean BTC/USDT?"),
        ("btc/usdt", "did you mean BTC/USDT?"),
        ("BCTUSDT", "did you mean BTC/USDT?"),
        ("DOGE/USDT", "it has ADA/USDT, BTC/USDT, ETH/USDT"),
        ("SOL/USDT", "it has ADA/USDT, BTC/USDT, ETH/USDT"),
        ("LTC/USDT", "did you mean BTC/USDT?"),
        ("XRP/USDC", "it has ADA/USDT, BTC/USDT, ETH/USDT"),
    ],
)
def test_a_pair_is_suggested_only_if_it_is_close(project: Project, pair: str, hint: str) -> None:
    config = project.write("pairs: [BTC/USDT, ETH/USDT, ADA/USDT], span: 1d, start: 2024-12-01")
    with pytest.raises(ValueError, match="has no pair") as raised:
        run_backfill(config, pairs=[pair], dry_run=True)
    assert str(raised.value) == f"the configuration has no pair {pair!r}; {hint}"


def test_of_many_pairs_some_are_named(project: Project) -> None:
    many = ", ".join(f"P{n:02}/USDT" for n in range(23))
    config = project.write(f"pairs: [{many}], span: 1d, start: 2024-12-01")
    with pytest.raises(ValueError, match=r"it has P00/USDT, .*, P19/USDT and 3 more$"):
        run_backfill(config, pairs=["DOGE/USDT"], dry_run=True)


def test_dates_are_read_in_the_configured_zone(project: Project, box: Sandbox) -> None:
    project.write("pairs: [BTC/USDT], span: 1h, start: 2024-06-01")
    text = project.path.read_text().replace("timezone: UTC", "timezone: Asia/Tokyo")
    project.path.write_text(text)
    config = project.config

    def missing(start: object, end: object) -> list[Window]:
        plan = run_backfill(config, start=start, end=end, dry_run=True)  # type: ignore[arg-type]
        return plan.plans[0].missing

    assert missing(None, "2024-06-03") == [window("2024-05-31T15:00", "2024-06-02T15:00")]
    assert missing("2023-01-01", "2023-01-02 06:00") == [
        window("2022-12-31T15:00", "2023-01-01T21:00")
    ]
    assert missing("2023-01-01T00:00:00Z", datetime(2023, 1, 2, tzinfo=UTC)) == [
        window("2023-01-01", "2023-01-02")
    ]
    plus = timezone(timedelta(hours=2))
    assert missing(date(2023, 1, 1), datetime(2023, 1, 1, 4, tzinfo=plus)) == [
        window("2023-01-01", "2023-01-01T02:00")
    ]
    with pytest.raises(ValueError, match="'soon' is not a moment: write 2024-01-01"):
        missing("soon", None)

    before = run_backfill(config, start="2023-12-31", end="2024-01-02")
    assert before.ok
    wanted = window("2023-12-30T15:00", "2024-01-01T15:00")
    assert_whole(project.store, config.series()[0], truth(box, config.series()[0], wanted))
    with project.instance() as instance:  # before the configured start, and before its year
        assert set(materialized(instance, config.series()[0])) == {"2023", "2024"}


def test_windows_that_fail_are_named_with_their_reason(project: Project, box: Sandbox) -> None:
    config = project.write("pairs: [BTC/USDT, ETH/USDT, BTC/USDX], span: 1d, start: 2024-12-01")
    box.set_faults(spoil("5xx", "ETHUSDT", "2025-01-01"))
    report = run_backfill(config, end=END)
    assert not report.ok
    unknown = replace(BTC, symbol=Symbol("BTC", "USDX"))
    places = [line.partition("Z: ")[0] + "Z" for line in sorted(report.failed)]
    assert places == [f"{unknown} {WANTED}", f"{ETH} {window('2025-01-01', END)}"]
    assert "no such pair; did you mean BTC/USDT" in sorted(report.failed)[0]
    assert "HTTP 5" in sorted(report.failed)[1]
    [plan] = [plan for plan in report.plans if plan.series == unknown]
    assert plan.problem.startswith("BTC/USDX: Binance spot has no such pair")
    assert report.rows == 2 * 31 + 10
    with project.instance() as instance:
        assert set(materialized(instance, ETH)) == {"2024"}
        assert set(observed(instance, ETH)) == {"2025"}
        run = instance.get_run_by_id(report.runs[0])
        assert run is not None
        assert run.status == dg.DagsterRunStatus.FAILURE
    box.reset()
    rest = run_backfill(config, pairs=["BTC/USDT", "ETH/USDT"], end=END)
    assert rest.ok
    assert rest.rows == 10
    assert [one["symbol"] for one in page_questions(box)] == ["ETHUSDT"]


def test_a_cancelled_backfill_keeps_what_it_has(project: Project, box: Sandbox) -> None:
    config = project.write(*JOBS)
    box.set_faults(spoil("slow", "ETHUSDT", "2025-01-01", seconds=600))
    cancel = Event()
    done: dict[Series, int] = {}

    def stop(step: Progress) -> None:
        done[step.series] = step.done
        if done == {BTC: 2, ETH: 1}:  # all that can be had of this run
            cancel.set()

    report = run_backfill(config, end=END, progress=stop, cancel=cancel)
    assert cancel.is_set()
    assert not report.ok
    assert f"{ETH} {window('2025-01-01', END)}: cancelled" in report.failed
    assert_sound(project.store.root)
    every = (BTC, ETH, BTC_4H, ETH_4H)
    stored = {one: project.store.load(one) for one in every if project.store.existing_periods(one)}
    assert report.rows == sum(frame.height for frame in stored.values())
    assert stored[BTC].equals(truth(box, BTC, WANTED))
    ran = HealthMonitor(project.store.root).get_metrics()
    assert sum(one.rows_collected for one in ran.values()) == report.rows
    assert ran[str(ETH)].last_run is not None
    assert (ran[str(ETH)].errors_count, ran[str(ETH)].last_success) == (0, None)
    box.reset()
    rest = run_backfill(config, end=END)
    assert rest.ok
    assert rest.rows + report.rows == sum(truth(box, one, WANTED).height for one in every)
    for series in every:
        assert_whole(project.store, series, truth(box, series, WANTED))


def test_planning_can_be_cancelled(project: Project, box: Sandbox) -> None:
    config = project.write(*JOBS)
    box.set_faults(Rule("slow", path="/binance", seconds=600))
    cancel = Event()
    Timer(0.5, cancel.set).start()
    report = run_backfill(config, end=END, cancel=cancel)
    assert {line.partition(" ")[0] for line in report.failed} == {
        str(series) for series in (BTC, ETH, BTC_4H, ETH_4H)
    }
    assert all(line.endswith(": cancelled") for line in report.failed)


def test_run_once_brings_every_job_up_to_now(project: Project, box: Sandbox) -> None:
    begin = datetime.now(UTC) - timedelta(days=30)
    config = project.write(f"pairs: [BTC/USDT], span: 4h, start: {begin:%Y-%m-%d}")
    report = run_once(config)
    assert report.ok
    stored = project.store.load(BTC_4H)
    closed = BTC_4H.floor(at(datetime.now(UTC).isoformat()))
    expected = truth(box, BTC_4H, Window(at(f"{begin:%Y-%m-%d}"), closed))
    assert expected.height - stored.height in (0, 1), "a candle may have closed since"
    assert stored.equals(expected.head(stored.height))
    [run_id] = report.runs
    with project.instance() as instance:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        assert run.tags["dccd/quiet"] == "true"
    again = run_once(config)
    assert again.ok
    assert again.rows in (0, 1)
