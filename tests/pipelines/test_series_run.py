"""Runs over series × years: what is stored, what Dagster is told, and what a broken run leaves."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from helpers import assert_sound, assert_whole, at, page_questions, truth, window
from projects import (
    REPOSITORY,
    Project,
    load_location,
    materialize,
    materialized,
    observed,
    spoil,
)

from dccd_core.health import HealthMonitor
from dccd_core.models import Channel, Series, Symbol, Window
from dccd_pipelines.keys import asset_key
from dccd_pipelines.partitions import range_tags
from dccd_pipelines.series_run import END_TAG, QUIET_TAG, START_TAG
from dccd_sandbox import Sandbox, Settings

BTC = Series("binance", Channel.OHLC, Symbol("BTC", "USDT"), 86_400)
ETH = replace(BTC, symbol=Symbol("ETH", "USDT"))
SOL = replace(BTC, symbol=Symbol("SOL", "USDT"))
WELL = (True, "complete, in order and consistent")


def judged(result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, str]]:
    """The verdict on each pair, and its words."""
    return {
        check.asset_key.path[-1]: (check.passed, check.description or "")
        for check in result.get_asset_check_evaluations()
    }


def failure(result: dg.ExecuteInProcessResult) -> tuple[str, list[str]]:
    """What a failed step said: its sentence, and its lines of missing windows."""
    [failed] = [event for event in result.all_events if event.is_step_failure]
    said = failed.step_failure_data.user_failure_data
    assert said is not None
    return str(said.description), str(said.metadata["missing"].value).splitlines()


def test_assets_of_the_location_tell_what_they_stored(
    project: Project, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("pairs: [BTC/USDT, SOL/USDT], span: 1d, start: 2019-12-01")
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    location = load_location()
    with project.instance() as instance:
        result = dg.materialize(
            list(location.assets or []),
            instance=instance,
            resources=location.resources,
            tags=range_tags(["2019", "2020"]),
        )
        assert result.success
        told = {one: materialized(instance, one) for one in (BTC, SOL)}
        partitions = location.resolve_asset_graph().get(asset_key(SOL)).partitions_def
        assert partitions is not None
        status = instance.get_status_by_partition(asset_key(SOL), ["2019", "2020"], partitions)

    store, wanted = project.store, window("2019-12-01", "2021-01-01")
    expected = truth(box, BTC, wanted)
    assert_whole(store, BTC, expected)
    assert set(told[BTC]) == set(told[SOL]) == {"2019", "2020"}
    assert status is not None
    assert {one.name for one in status.values() if one} == {"MATERIALIZED"}

    year, [part] = told[BTC]["2020"], store.parts(BTC, "2020")
    assert year | {
        "dagster/row_count": 366, "rows_added": 366, "rows_revised": 0, "gaps": 0,
        "requests": 1, "bytes": part.path.stat().st_size, "path": str(part.path),
        "first": at("2020-01-01") / 1e6, "last": at("2020-12-31") / 1e6,
    } == year  # fmt: skip
    assert year["seconds"] > 0
    assert year["chart"].startswith("![close](data:image/svg+xml;base64,")
    shown = year["preview"].splitlines()[2:]
    newest = expected.tail(len(shown)).rows(named=True)
    assert len(shown) == 5
    assert [line.strip("| ").split(" | ") for line in shown] == [
        [f"{row['time']:%Y-%m-%d %H:%M}"]
        + [str(row[name]) for name in ("open", "high", "low", "close", "volume")]
        for row in newest
    ]
    assert told[BTC]["2019"]["dagster/row_count"] == 31
    assert "preview" not in told[BTC]["2019"], "only the newest year has one"

    assert told[SOL]["2019"]["dagster/row_count"] == 0
    assert told[SOL]["2019"]["note"].startswith("before listing: the first candle opens at 2020-08")
    assert told[SOL]["2020"]["dagster/row_count"] == truth(box, SOL, wanted).height > 100

    assert judged(result) == {"BTC-USDT": WELL, "SOL-USDT": WELL}
    [figures] = [
        {name: value.value for name, value in check.metadata.items()}
        for check in result.get_asset_check_evaluations()
        if check.asset_key == asset_key(BTC)
    ]
    assert figures | {
        "rows": expected.height, "missing_windows": 0, "confirmed_empty_candles": 0,
        "duplicates": 0, "contradicting_prices": 0, "revised": 0,
        "first": at("2019-12-01") / 1e6, "last": at("2020-12-31") / 1e6,
    } == figures  # fmt: skip
    assert figures["data_age_seconds"] == pytest.approx(
        time.time() - at("2021-01-01") / 1e6, abs=3_600
    )


def test_what_fails_is_red_and_only_that_is_asked_again(project: Project, box: Sandbox) -> None:
    btc, eth = replace(BTC, span=3_600), replace(ETH, span=3_600)
    unknown = replace(btc, symbol=Symbol("BTC", "USDX"))
    job = "span: 1h, start: 2024-11-01"
    project.write(f"pairs: [BTC/USDT, ETH/USDT, BTC/USDX], {job}")
    wanted = window("2024-11-01", "2026-01-01")
    first = btc.span * 1_000 * 1_000_000
    bad = Window(wanted.start + first, at("2025-01-01"))  # the second page of 2024
    box.set_faults(spoil("5xx", "ETHUSDT", "2024-12-12T16:00"))
    with project.instance() as instance:
        result = materialize(project, instance, ["2024", "2025"])
        assert not result.success
        assert set(materialized(instance, btc)) == {"2024", "2025"}
        assert set(materialized(instance, eth)) == {"2025"}
        assert set(materialized(instance, unknown)) == set()
        assert observed(instance, btc) == {}
        assert set(observed(instance, unknown)) == {"2024", "2025"}
        seen = observed(instance, eth)
        assert set(seen) == {"2024"}
        assert seen["2024"]["rows_added"] == 1_000
        assert seen["2024"]["error"].startswith(f"{bad}: ")
        assert "HTTP 5" in seen["2024"]["error"]
        assert "did you mean BTC/USDT" in observed(instance, unknown)["2025"]["error"]

        sentence, missing = failure(result)
        assert sentence.startswith(
            "3 of 6 (series, period) are not complete; the others are stored"
        )
        assert {line.partition(": ")[0] for line in missing} == {
            f"- {eth} 2024", f"- {unknown} 2024", f"- {unknown} 2025",
        }  # fmt: skip
        assert f"- {eth} 2024: {seen['2024']['error']}" in missing
        verdicts = judged(result)
        assert verdicts.keys() == {"BTC-USDT", "ETH-USDT", "BTC-USDX"}
        assert verdicts["BTC-USDT"][0]
        assert not verdicts["ETH-USDT"][0]
        assert str(bad) in verdicts["ETH-USDT"][1]
        assert not verdicts["BTC-USDX"][0]
        metrics = HealthMonitor(project.store.root).get_metrics()
        assert {name: (m.rows_collected, m.consecutive_errors) for name, m in metrics.items()} == {
            str(btc): (truth(box, btc, wanted).height, 0),
            str(eth): (truth(box, eth, wanted).height - eth.count(bad), 1),
            str(unknown): (0, 1),
        }
        assert project.store.missing_windows(eth, wanted) == [bad]

        box.reset()
        project.write(f"pairs: [BTC/USDT, ETH/USDT], {job}")
        again = materialize(project, instance, ["2024", "2025"])
        assert again.success
        questions = page_questions(box)
        assert [one["symbol"] for one in questions] == ["ETHUSDT"]
        assert int(questions[0]["startTime"]) == bad.start // 1_000 - 3 * 3_600_000
        assert materialized(instance, eth)["2024"]["rows_added"] == eth.count(bad)
        assert set(materialized(instance, eth)) == {"2024", "2025"}
        assert judged(again) == {"BTC-USDT": WELL, "ETH-USDT": WELL}
    for series in (btc, eth):
        assert_whole(project.store, series, truth(box, series, wanted))


def test_a_cell_outside_of_what_is_wanted_is_not_green_and_fails_no_backfill(
    project: Project, box: Sandbox
) -> None:
    project.write(
        "pairs: [BTC/USDT], span: 1d, start: 2025-12-30",
        "pairs: [ETH/USDT], span: 1d, start: 2024-12-30",
    )
    with project.instance() as instance:
        result = materialize(project, instance, ["2024"])
        assert result.success
        assert materialized(instance, BTC) == {}
        told = observed(instance, BTC)["2024"]
        assert told["dagster/row_count"] == 0
        assert told["note"].startswith("outside the wanted window 2025-12-30T00:00:00Z … ")
        said = "complete, in order and consistent; nothing was asked of 2024: see its note"
        assert judged(result) == {"BTC-USDT": (True, said), "ETH-USDT": WELL}

        assert materialize(project, instance, ["2024"], {"dagster/backfill": "abcdefgh"}).success
        assert set(materialized(instance, BTC)) == {"2024"}, "else Dagster counts it as failed"
    assert {one["symbol"] for one in page_questions(box)} == {"ETHUSDT"}


def test_a_quiet_run_tells_of_news_only(project: Project, box: Sandbox) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2024-12-01")
    years = ["2024", "2025", "2026"]
    first = {START_TAG: "2024-12-10T00:00:00Z", END_TAG: "2025-01-20T00:00:00Z"}
    with project.instance() as instance:
        assert materialize(project, instance, years, first).success
        told = materialized(instance, BTC)
        assert {year: data["dagster/row_count"] for year, data in told.items()} == {
            "2024": 22, "2025": 19,
        }  # fmt: skip

        box.reset()
        loud = materialize(project, instance, years, first)
        assert told_years(loud) == ["2024", "2025"], "a person is told of each cell"
        assert materialized(instance, BTC)["2024"]["note"] == "complete: nothing was asked"
        quiet = materialize(project, instance, years, first | {QUIET_TAG: "true"})
        assert told_years(quiet) == []
        assert page_questions(box) == []
        assert judged(quiet) == {"BTC-USDT": WELL}

        later = first | {QUIET_TAG: "true", END_TAG: "2025-01-21T00:00:00Z"}
        news = materialize(project, instance, years, later)
        assert told_years(news) == ["2025"]
        assert materialized(instance, BTC)["2025"]["rows_added"] == 1
    assert_whole(project.store, BTC, truth(box, BTC, window("2024-12-10", "2025-01-21")))


def told_years(result: dg.ExecuteInProcessResult) -> list[str]:
    """The years that a run materialized."""
    found = (event.partition for event in result.all_events if event.is_step_materialization)
    return sorted(year for year in found if year)


def test_checks_alone_judge_the_files_and_ask_nothing(project: Project, box: Sandbox) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2023-12-01")
    alone: dict[str, Any] = {"selection": dg.AssetSelection.all_asset_checks()}
    years, end = ["2023", "2024", "2025"], {END_TAG: "2025-01-11T00:00:00Z"}
    with project.instance() as instance:
        assert materialize(project, instance, years, end).success
        box.reset()
        good = materialize(project, instance, years, **alone)
        file = project.store.folder(BTC) / "2024.parquet"
        content = file.read_bytes()
        file.unlink()
        holed = materialize(project, instance, years, **alone)
        file.write_bytes(content[:-100])
        torn = materialize(project, instance, years, **alone)
        assert page_questions(box) == []
        assert told_years(good) == []
        assert judged(good) == {"BTC-USDT": WELL}
        assert judged(holed) == {
            "BTC-USDT": (False, f"missing 366 candles: {window('2024-01-01', '2025-01-01')}")
        }
        [(passed, words)] = judged(torn).values()
        assert not passed
        assert "2024.parquet" in words

        mended = materialize(project, instance, years, end)
        assert mended.success
        year = materialized(instance, BTC)["2024"]
        assert year["rows_added"] == 366
        assert year["set_aside"].startswith("unreadable, fetched again: ")
        [aside] = year["set_aside"].partition(": ")[2].splitlines()
        assert Path(aside).read_bytes() == content[:-100], "what cannot be read is kept"
    assert_whole(project.store, BTC, truth(box, BTC, window("2023-12-01", "2025-01-11")))


def test_holes_that_the_exchange_has_are_listed(
    project: Project, tmp_path: Path, empty_home: Path
) -> None:
    hours = [h for h in range(24 * 20) if h not in (100, 101, 300)]
    start = at("2025-03-01") // 1_000
    lines = [f"{start + h * 3_600_000},1.0,2.0,0.5,1.5,10.0" for h in hours]
    (tmp_path / "aaa.csv").write_text("time,open,high,low,close,volume\n" + "\n".join(lines))
    series = replace(BTC, symbol=Symbol("AAA", "USDT"), span=3_600)
    settings = Settings(
        symbols=(), candles=(f"AAAUSDT:AAA:USDT:1h:{tmp_path / 'aaa.csv'}",), weight_limit=0
    )
    with Sandbox(settings) as box:
        holed = Project(tmp_path, box.binance_url, empty_home)
        holed.write("pairs: [AAA/USDT], span: 1h, start: 2025-01-01")
        with holed.instance() as instance:
            end = {END_TAG: "2025-03-20T00:00:00Z"}
            result = materialize(holed, instance, ["2025"], end)
            assert result.success
            year = materialized(instance, series)["2025"]
    assert (year["dagster/row_count"], year["gaps"]) == (24 * 19 - 3, 3)
    assert year["gap_list"].splitlines() == [
        "confirmed_empty: 2 candles, 2025-03-05T04:00:00Z … 2025-03-05T06:00:00Z",
        "confirmed_empty: 1 candles, 2025-03-13T12:00:00Z … 2025-03-13T13:00:00Z",
    ]
    [check] = result.get_asset_check_evaluations()
    assert check.passed
    assert check.metadata["confirmed_empty_candles"].value == 3


KILLED = """
import dagster as dg
from dccd_core.config import load_config
from dccd_pipelines.definitions import defs
from dccd_pipelines.instance import open_instance
from dccd_pipelines.partitions import range_tags

with open_instance(load_config()) as instance:
    location = defs()
    dg.materialize(
        list(location.assets), instance=instance, resources=location.resources,
        tags=range_tags(["2019", "2020"]),
    )
"""


def told_of(instance: dg.DagsterInstance) -> dict[Series, int]:
    """How many years of each pair Dagster was told of."""
    return {one: len(materialized(instance, one)) for one in (BTC, ETH)}


def test_a_killed_run_leaves_what_it_stored_and_no_lock(project: Project, box: Sandbox) -> None:
    project.write("pairs: [BTC/USDT, ETH/USDT], span: 1d, start: 2019-12-01")
    box.set_faults(spoil("slow", "ETHUSDT", "2020-01-01", seconds=600))
    with (
        project.instance() as instance,
        subprocess.Popen(
            [sys.executable, "-c", KILLED], cwd=REPOSITORY, env=project.environment()
        ) as process,
    ):
        while process.poll() is None and told_of(instance) != {BTC: 2, ETH: 1}:
            time.sleep(0.1)
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it was waiting for the other pair"

        wanted = window("2019-12-01", "2021-01-01")
        assert_sound(project.store.root)
        assert_whole(project.store, BTC, truth(box, BTC, wanted))
        assert project.store.existing_periods(ETH) == ["2019"]
        box.reset()
        result = materialize(project, instance, ["2019", "2020"])
        assert result.success
        # 2020, and the end of 2019 before it
        assert [one["symbol"] for one in page_questions(box)] == ["ETHUSDT", "ETHUSDT"]
        assert set(materialized(instance, ETH)) == {"2019", "2020"}
        assert set(materialized(instance, BTC)) == {"2019", "2020"}
    assert_whole(project.store, ETH, truth(box, ETH, wanted))
