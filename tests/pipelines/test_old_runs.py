"""Old runs are deleted, but never the newest word about a partition or a check."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from projects import Project, load_location, materialized

from dccd_pipelines import run_backfill
from dccd_pipelines.keys import asset_key
from dccd_pipelines.old_runs import BACKFILL, Deleted, delete_old_runs, stored_bytes
from dccd_sandbox import Sandbox

SOON = timedelta(minutes=1)


def backfill(project: Project, end: str) -> str:
    [run] = run_backfill(project.config, end=end).runs
    return run


def file_of(instance: dg.DagsterInstance, run: str) -> Path:
    return Path(instance.root_directory) / "history" / "runs" / f"{run}.db"


def test_runs_stay_that_have_the_newest_of_something(project: Project, box: Sandbox) -> None:
    config = project.write("pairs: [BTC/USDT], span: 1d, start: 2024-12-01")
    series = config.series()[0]
    whole, useless, newest = (
        backfill(project, end) for end in ("2025-01-05", "2025-01-06", "2025-01-07")
    )
    with project.instance() as instance:
        before = materialized(instance, series)
        size = stored_bytes(instance)
        long_ago = datetime.now(UTC) - timedelta(days=14)
        assert delete_old_runs(instance, long_ago) == Deleted(0, 0), "none is old"
        assert delete_old_runs(instance, datetime.now(UTC) + SOON) == Deleted(1, 2)
        assert instance.get_run_by_id(useless) is None
        assert not file_of(instance, useless).exists()
        for run in (whole, newest):
            assert instance.get_run_by_id(run) is not None
            assert file_of(instance, run).exists()
        assert materialized(instance, series) == before
        assert instance.get_materialized_partitions(asset_key(series)) == {"2024", "2025"}
        assert stored_bytes(instance) < size
        check = dg.AssetCheckKey(asset_key(series), "quality")
        record = instance.get_latest_asset_check_evaluation_record(check)
        assert record is not None
        assert record.event is not None
        assert record.event.run_id == newest


def test_a_run_with_the_last_result_of_a_check_stays(
    project: Project, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = project.write("pairs: [BTC/USDT], span: 1d, start: 2024-12-01")
    backfill(project, "2025-01-05")
    monkeypatch.setenv("DCCD_CONFIG", str(config.path))
    job = load_location().resolve_job_def("quality_job")
    with project.instance() as instance:
        first, second = (job.execute_in_process(instance=instance).run_id for _ in range(2))
        assert delete_old_runs(instance, datetime.now(UTC) + SOON).runs == 1
        assert instance.get_run_by_id(first) is None
        assert instance.get_run_by_id(second) is not None


def test_the_schedule_s_asset_tells_how_large_the_database_is(
    project: Project, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = project.write("pairs: [BTC/USDT], span: 1d, start: 2024-12-01")
    monkeypatch.setenv("DCCD_CONFIG", str(config.path))
    with project.instance() as instance:
        job = load_location().resolve_job_def("old_runs_job")
        assert job.execute_in_process(instance=instance).success
        event = instance.get_latest_materialization_event(dg.AssetKey(["health", "old_runs"]))
        assert event is not None
        assert event.asset_materialization is not None
        told = {k: v.value for k, v in event.asset_materialization.metadata.items()}
    assert told["deleted"] == told["kept"] == 0
    assert told["database_bytes"] > 100_000


def test_a_failed_run_stays_while_its_backfill_goes_on(
    project: Project, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = project.write("pairs: [BTC/USDT], span: 1d, start: 2024-12-01")
    _, useless, _ = (backfill(project, end) for end in ("2025-01-05", "2025-01-06", "2025-01-07"))
    monkeypatch.setenv("DCCD_CONFIG", str(config.path))
    job = load_location().resolve_job_def("quality_job")
    with project.instance() as instance:
        instance.add_run_tags(useless, {BACKFILL: "one"})
        going = instance.create_run_for_job(
            job, status=dg.DagsterRunStatus.STARTED, tags={BACKFILL: "one"}
        )
        assert delete_old_runs(instance, datetime.now(UTC) + SOON).runs == 0
        instance.delete_run(going.run_id)
        assert delete_old_runs(instance, datetime.now(UTC) + SOON).runs == 1
        assert instance.get_run_by_id(useless) is None


def test_a_journal_that_vanishes_while_files_are_counted_is_no_error(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2024-12-01")
    with project.instance() as instance:
        size, real = stored_bytes(instance), Path.rglob
        gone = Path(instance.root_directory) / "history" / "runs.db-journal"
        monkeypatch.setattr(Path, "rglob", lambda *given: [*real(*given), gone])
        assert stored_bytes(instance) == size > 0
