"""Schedules: what a tick asks for, and the run that it starts."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from helpers import assert_whole, at, page_questions, truth
from projects import Project, load_location, materialize, materialized

from dccd_core.models import Channel, Series, Symbol, Window, moment
from dccd_pipelines.partitions import RANGE_END, RANGE_START, range_tags
from dccd_pipelines.series_run import END_TAG, QUIET_TAG
from dccd_sandbox import Sandbox

BTC = Series("binance", Channel.OHLC, Symbol("BTC", "USDT"), 86_400)
NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
NAME = "binance_ohlc_1d_schedule"


@pytest.fixture
def instance(project: Project) -> Iterator[dg.DagsterInstance]:
    """Two jobs of daily candles that begin twenty days ago, and their Dagster instance."""
    project.write(f"pairs: [BTC/USDT], span: 1d, start: {TODAY - timedelta(days=20):%Y-%m-%d}")
    with project.instance() as opened:
        yield opened


def tick(
    location: dg.Definitions, instance: dg.DagsterInstance, when: datetime = NOW
) -> dg.RunRequest | str:
    """What a schedule asks for at a moment: a run, or the reason why there is none."""
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=when,
        repository_def=location.get_repository_def(),
        resources=location.resources,
    )
    data = location.resolve_schedule_def(NAME).evaluate_tick(context)
    if not data.run_requests:
        return str(data.skip_message)
    [request] = data.run_requests
    return request


def execute(
    location: dg.Definitions, instance: dg.DagsterInstance, request: dg.RunRequest
) -> dg.ExecuteInProcessResult:
    """The run of a request, in this process."""
    job = location.resolve_job_def("binance_ohlc_1d_job")
    return job.execute_in_process(instance=instance, tags=request.tags, raise_on_error=False)


def test_a_tick_starts_a_run_that_brings_the_jobs_up_to_now(
    project: Project,
    box: Sandbox,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    begin, closed = TODAY - timedelta(days=20), Window(at(f"{TODAY - timedelta(days=20)}"), 0)
    behind = TODAY - timedelta(days=5)
    years = sorted({str(begin.year), str(TODAY.year)})
    assert materialize(project, instance, years, {END_TAG: behind.isoformat()}).success
    box.reset()

    location = load_location()
    request = tick(location, instance)
    assert isinstance(request, dg.RunRequest)
    newest = moment(at(f"{behind}")) - timedelta(days=1)
    assert {name: value for name, value in request.tags.items() if "range" in name} == {
        RANGE_START: str(newest.year), RANGE_END: str(NOW.year),
    }  # fmt: skip
    result = execute(location, instance, request)
    assert result.success
    assert result.dagster_run.tags[QUIET_TAG] == "true"
    now = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    expected = truth(box, BTC, closed._replace(end=at(f"{now}")))
    assert expected.height in (20, 21)  # 21: a new day has begun since
    assert_whole(project.store, BTC, expected)
    yesterday = TODAY - timedelta(days=1)  # whose candle is the newest: also at New Year
    told = materialized(instance, BTC)[str(yesterday.year)]
    assert told["last"] >= yesterday.timestamp()
    assert all(int(one["startTime"]) >= at(f"{behind}") // 1_000 - 3 * 86_400_000
               for one in page_questions(box))  # fmt: skip

    again = execute(location, instance, request)
    assert again.success
    assert not [event for event in again.all_events if event.is_step_materialization]


def test_no_tick_while_a_run_is_unfinished(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    location = load_location()
    job = location.resolve_job_def("binance_ohlc_1d_job")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    skipped = tick(location, instance)
    assert skipped == f"run {run.run_id} has not ended; it collects up to now"
    instance.report_run_failed(run)
    assert isinstance(tick(location, instance), dg.RunRequest)


def test_ticks_after_new_year_and_after_a_changed_start(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    project.write("pairs: [BTC/USDT], span: 1d, start: 2023-12-01")
    assert materialize(project, instance, ["2023"], {END_TAG: "2023-12-31T00:00:00Z"}).success
    location = load_location()
    new_year = datetime(2024, 1, 1, tzinfo=UTC)
    request = tick(location, instance, new_year)
    assert isinstance(request, dg.RunRequest)
    assert request.tags.items() >= range_tags(["2023", "2024"]).items()

    project.write(f"pairs: [BTC/USDT], span: 1d, start: {TODAY:%Y-%m-%d}")
    location = load_location()
    request = tick(location, instance)
    assert isinstance(request, dg.RunRequest)
    assert execute(location, instance, request).success, "2023 is not asked for any more"

    project.write(f"pairs: [BTC/USDT], span: 1d, start: {NOW.year + 2}-01-01")
    assert tick(load_location(), instance) == "the configured start has not come yet"


def test_the_daily_quality_job_judges_every_series_and_asks_nothing(
    project: Project,
    box: Sandbox,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    assert materialize(project, instance, [str(TODAY.year)]).success
    box.reset()
    location = load_location()
    result = location.resolve_job_def("quality_job").execute_in_process(instance=instance)
    [judged] = result.get_asset_check_evaluations()
    assert judged.passed
    assert judged.asset_key == dg.AssetKey(list(BTC.key))
    assert page_questions(box) == []
