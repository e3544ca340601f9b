"""The health sensor on Dagster's own records, with a webhook on this machine."""

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from projects import Project, load_location
from slack import SECRET, Slack

from dccd_core.config import Config, load_config
from dccd_core.incidents import Register
from dccd_core.models import Series
from dccd_core.stream_status import ServiceStatus, StreamStatus, write_status
from dccd_pipelines import run_backfill
from dccd_pipelines.health_run import Look, changed_checks, observer_of
from dccd_pipelines.keys import asset_key
from dccd_pipelines.overview import overview
from dccd_pipelines.past import AGAIN
from dccd_sandbox import Sandbox

BTC = Series.parse("binance/ohlc/1d/BTC-USDT")
JOB = "binance_ohlc_1d_job"


@pytest.fixture
def slack() -> Iterator[Slack]:
    found = Slack()
    yield found
    found.close()


def write(project: Project, slack: Slack, more: str = "") -> Config:
    config = project.write("pairs: [BTC/USDT], span: 1d, start: 2024-12-01")
    with project.path.open("a") as file:
        file.write(f"alerts: {{webhook_url: '{slack.url}', max_consecutive_errors: 2}}\n{more}")
    return load_config(config.path)


def heads(slack: Slack) -> list[str]:
    return [one.splitlines()[0] for one in slack.messages]


def end_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> None:
    """A run of the job that ended so."""

    @dg.job(name=JOB)
    def job() -> None:
        pass

    instance.create_run_for_job(job, status=status)


def test_an_alert_after_exactly_so_many_failures_and_one_at_the_end(
    project: Project, slack: Slack
) -> None:
    config = write(project, slack)
    with project.instance() as instance:

        def look(now: float) -> None:
            Look(config, instance, [JOB], [], now).report()

        look(1.0)
        end_run(instance, dg.DagsterRunStatus.FAILURE)
        look(2.0)
        assert slack.messages == []
        end_run(instance, dg.DagsterRunStatus.FAILURE)
        look(3.0)
        look(4.0)
        end_run(instance, dg.DagsterRunStatus.FAILURE)
        end_run(instance, dg.DagsterRunStatus.STARTED)
        look(5.0)
        [alert] = slack.messages
        assert alert.startswith(":red_circle: *job failed: <http://127.0.0.1:3000/runs/")
        assert "2 runs in a row failed" in alert
        end_run(instance, dg.DagsterRunStatus.SUCCESS)
        look(63.0)
        look(64.0)
        assert [one.split()[0] for one in heads(slack)] == [":red_circle:", ":large_green_circle:"]
        assert slack.messages[1].endswith("is over after 1 min")


def test_runs_of_the_past_that_are_not_tried_again_have_nothing_to_fetch(
    project: Project, slack: Slack
) -> None:
    config, name = write(project, slack), JOB.replace("_job", "_past_job")

    @dg.job(name=name)
    def job() -> None:
        pass

    with project.instance() as instance:
        for _ in range(2):
            run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
            instance.report_run_failed(run)
        now = time.time()
        Look(config, instance, [name], [], now).report()
        Look(config, instance, [name], [], now + AGAIN).report()
        assert [one.split()[0] for one in heads(slack)] == [":red_circle:"]
        Look(config, instance, [name], [], now + 2.1 * AGAIN).report()
        assert [one.split()[0] for one in heads(slack)] == [":red_circle:", ":large_green_circle:"]


def test_a_configuration_that_cannot_be_used_is_told_of(project: Project, slack: Slack) -> None:
    config = write(project, slack)
    with project.instance() as instance:
        Look(config, instance, [], [], 1.0, "config.yml:3: settings.timezone: no\n" * 99).report()
        [alert] = slack.messages
        assert alert.startswith(
            ":red_circle: *config.yml: <http://127.0.0.1:3000/locations|the last good one is used>*"
            "\nconfig.yml:3: settings.timezone: no\n"
        )
        assert len(alert) < 1_300
        Look(config, instance, [], [], 61.0).report()
        assert slack.messages[1].endswith("is over after 1 min")


def test_a_copy_that_fails_is_told_of_at_once_in_its_own_words(
    project: Project, slack: Slack
) -> None:
    config = write(project, slack)

    @dg.op
    def copy() -> None:
        raise dg.Failure("not copied", metadata={"incident": "rclone is not installed"})

    @dg.job(name="offsite_nas_job", executor_def=dg.in_process_executor)
    def copies() -> None:
        copy()

    with project.instance() as instance:
        copies.execute_in_process(instance=instance, raise_on_error=False)
        for now in (1.0, 2.0):
            Look(config, instance, ["offsite_nas_job"], [], now).report()
    [alert] = slack.messages
    assert alert.startswith(":red_circle: *copy failed: <http://127.0.0.1:3000/runs/")
    assert "|offsite_nas_job>*\nrclone is not installed\n" in alert


def test_a_copy_that_was_cut_short_is_not_the_remote_s_fault(
    project: Project, slack: Slack
) -> None:
    config = write(project, slack)

    @dg.job(name="offsite_nas_job")
    def copies() -> None:
        pass

    with project.instance() as instance:
        for expected in (0, 1):
            instance.create_run_for_job(copies, status=dg.DagsterRunStatus.FAILURE)
            Look(config, instance, ["offsite_nas_job"], [], 1.0).report()
            assert len(slack.messages) == expected


def test_a_failed_check_is_an_incident_until_it_passes(project: Project, slack: Slack) -> None:
    config = write(project, slack)
    keys = [dg.AssetCheckKey(asset_key(BTC), "quality")]
    with project.instance() as instance:

        def say(passed: bool, severity: dg.AssetCheckSeverity) -> None:
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    asset_key(BTC),
                    "quality",
                    passed,
                    severity=severity,
                    description="missing 3 candles",
                )
            )

        def look(now: float) -> None:
            Look(config, instance, [], keys, now).report()

        say(False, dg.AssetCheckSeverity.WARN)
        look(1.0)
        assert slack.messages == [], "a warning is not an incident"
        say(False, dg.AssetCheckSeverity.ERROR)
        look(2.0)
        look(3.0)
        [alert] = slack.messages
        assert "binance/ohlc/1d/BTC-USDT quality" in alert
        assert "missing 3 candles" in alert
        assert "/assets/binance/ohlc/1d/BTC-USDT?view=checks|" in alert
        say(True, dg.AssetCheckSeverity.ERROR)
        look(4.0)
        assert len(slack.messages) == 2


def test_the_sensors_and_the_page_of_a_location(
    project: Project, slack: Slack, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole location: what the sensors say, and that no secret is anywhere."""
    config = write(
        project, slack, "stream_jobs: [{exchange: binance, pairs: [ETH/USDT], channels: [trades]}]"
    )
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    assert run_backfill(config, end="2025-01-11").ok
    location = load_location()
    repository = location.get_repository_def()
    with project.instance() as instance:
        sensor = repository.get_sensor_def("health")
        context = dg.build_sensor_context(instance, repository_def=repository)
        result = sensor.evaluate_tick(context)
        told = {event.asset_key.to_user_string(): event for event in result.asset_events}
        assert set(told) == {str(BTC), "binance/trades/ETH-USDT"}
        assert all(isinstance(event, dg.AssetCheckEvaluation) for event in told.values())
        assert told[str(BTC)].passed is False, "it ends in 2025"
        assert [one.run_key for one in result.run_requests] == ["first"], "not in the night only"
        assert sensor.job_name == "health_overview_job"
        page = repository.get_job("health_overview_job")
        assert page.execute_in_process(instance=instance).success
        again = dg.build_sensor_context(instance, repository_def=repository, cursor=result.cursor)
        result = sensor.evaluate_tick(again)
        assert (result.asset_events, result.run_requests) == ([], [])
        assert result.skip_message == "2 series: 1 stale, 1 empty; no incident is open"
        assert (config.settings.data_path / ".dccd" / "metrics.json").exists()
        seen = Register(config.settings.data_path).read()
        assert set(seen.seen) == {f"stale: {BTC}", "stream service: stream service"}
    page = overview(config)
    assert page["series"].value == 2
    [first] = [one for one in page["table"].records if one.data["series"] == str(BTC)]
    assert first is page["table"].records[0], "the worst comes first"
    assert first.data["state"] == "stale"
    assert first.data["rows"] == "41"
    assert str(page["coverage"].value).startswith("![coverage](data:image/svg+xml;base64,")
    leaks = [
        path
        for path in config.settings.data_path.rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    assert leaks == []
    assert SECRET not in repr(location.metadata)


def test_freshness_is_told_when_it_changes(project: Project, slack: Slack) -> None:
    config = write(project, slack)
    found = observer_of(config).freshness(1.0)
    events, cursor = changed_checks(found, None)
    assert [event.description for event in events] == ["nothing is stored yet"]
    assert changed_checks(found, cursor) == ([], cursor)
    stale = [replace(one, state=type(one.state).STALE, age=9.0, limit=5.0) for one in found]
    [event] = changed_checks(stale, cursor)[0]
    assert (event.passed, event.description) == (False, "the newest data is 9 s old, more than 5 s")
    assert len(changed_checks(found, "of another version")[0]) == 1


def test_a_dead_service_that_is_started_again_is_told_of_once(
    project: Project, slack: Slack
) -> None:
    more = "stream_jobs: [{exchange: binance, pairs: [ETH/USDT], channels: [book]}]"
    config = write(project, slack, more)
    data = config.settings.data_path
    one = StreamStatus(
        key="k", exchange="binance", pair="ETH/USDT", channels=["book"], time_step=60,
        running=True, state="live", last_row=1_000.0, series=["binance/book/ETH-USDT"],
    )  # fmt: skip
    write_status(data, ServiceStatus(pid=1, host="h", started=0.0, written=1_000.0, streams=[one]))
    with project.instance() as instance:
        for now in (1_010.0, 1_100.0, 1_161.0, 1_200.0):
            Look(config, instance, [], [], now).report()
        assert heads(slack) == [":red_circle: *stream service: stream service*"]
        write_status(data, ServiceStatus(pid=2, host="h", started=1.0, written=1_210.0, streams=[]))
        Look(config, instance, [], [], 1_211.0).report()
        assert heads(slack)[1:] == [
            ":large_green_circle: *stream service: stream service* is over after 1 min 51 s"
        ]


def test_databases_of_dagster_hold_no_secret(project: Project, slack: Slack) -> None:
    config = write(project, slack)
    with project.instance() as instance:
        end_run(instance, dg.DagsterRunStatus.FAILURE)
        end_run(instance, dg.DagsterRunStatus.FAILURE)
        Look(config, instance, [JOB], [], 1.0).report()
    databases = list(Path(config.settings.data_path).rglob("*.db"))
    assert databases
    for path in databases:
        with sqlite3.connect(path) as connection:
            assert SECRET not in "\n".join(connection.iterdump())
