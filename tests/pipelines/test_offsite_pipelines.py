"""Remotes in Dagster and on the command line: when copies run, what they tell, and the way back."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from helpers import BTC_1H, at, table
from projects import Project, load_location
from remotes import instead_of_rclone, needs_rclone, tree

from dccd_core import retention
from dccd_core.models import SECOND, Window
from dccd_core.store import files
from dccd_pipelines.keys import asset_key
from dccd_pipelines.offsite_run import INCIDENT, RETENTION

pytestmark = needs_rclone

HOUR = 3_600 * SECOND
BEGIN = at("2025-01-01")
MAIN = f"{BTC_1H.path}/2025.parquet"
JOB, SENSOR = "offsite_nas_copy_job", "offsite_nas_copy_sensor"


@pytest.fixture
def nas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder behind the remote nas:."""
    folder = tmp_path / "nas"
    folder.mkdir()
    (tmp_path / "rclone.conf").write_text(f"[nas]\ntype = alias\nremote = {folder}\n")
    monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "rclone.conf"))
    return folder


@pytest.fixture
def instance(
    project: Project, nas: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """A project with ten candles, and two remotes of which one does not exist."""
    configure(project, "{remote: 'nas:copy'}", "{remote: 'gone:x'}")
    put(project, 0, 10)
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    with project.instance() as opened:
        yield opened


def configure(project: Project, *remotes: str, interval: int = 600) -> None:
    project.write("pairs: [BTC/USDT], span: 1h, start: 2025-01-01")
    text = project.path.read_text()
    project.path.write_text(
        f"{text}storage: {{sync_interval: {interval}, remotes: [{', '.join(remotes)}]}}\n"
    )


def put(project: Project, first: int, end: int) -> None:
    window = Window(BEGIN + first * HOUR, BEGIN + end * HOUR)
    rows = table(list(range(window.start, window.end, HOUR)))
    project.store.merge(BTC_1H, "2025", rows, [window], "rest")


def tick(
    location: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None, name: str = SENSOR
) -> tuple[str | None, str | None]:
    """Why there is no run, None if there is one; and the new cursor."""
    [sensor] = [one for one in location.sensors or [] if one.name == name]
    assert isinstance(sensor, dg.SensorDefinition)
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, repository_def=location.get_repository_def()
    )
    data = sensor.evaluate_tick(context)
    reason = None if data.run_requests else str(data.skip_message)
    return reason, data.cursor or cursor


def run(location: dg.Definitions, instance: dg.DagsterInstance, job: str = JOB) -> Any:
    return location.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False)


def earlier(cursor: str | None, seconds: float) -> str:
    """The cursor as it would be if that much time had passed."""
    assert cursor is not None
    known = json.loads(cursor)
    return json.dumps(known | {"at": known["at"] - seconds})


def told(result: Any) -> dict[str, Any]:
    [event] = [one for one in result.all_events if one.is_step_failure]
    return {
        name: value.value
        for name, value in event.step_failure_data.user_failure_data.metadata.items()
    }


def test_copies_run_after_new_data_and_not_more_often_than_allowed(
    project: Project, instance: dg.DagsterInstance, nas: Path
) -> None:
    location = load_location()
    names = [one.name for one in location.sensors or [] if one.name.startswith("offsite_")]
    assert names == [SENSOR, "offsite_gone_x_sensor"]
    reason, cursor = tick(location, instance, None)
    assert reason is None, "what was there before is copied at once"
    assert run(location, instance).success
    assert tree(nas)[f"copy/{MAIN}"] == (project.store.root / MAIN).read_bytes()
    record = instance.get_latest_materialization_event(dg.AssetKey(["offsite", "nas-copy"]))
    assert record is not None
    assert record.asset_materialization is not None
    metadata = {k: v.value for k, v in record.asset_materialization.metadata.items()}
    size = (project.store.root / MAIN).stat().st_size
    assert metadata.pop("seconds") > 0
    assert metadata == {"files": 1, "bytes": size, "compared_by": "checksums"}

    instance.report_runless_asset_event(
        dg.AssetMaterialization(asset_key(BTC_1H), partition="2025")
    )
    reason, same = tick(location, instance, cursor)
    assert reason is not None
    assert reason.startswith("the next copy is due in ")
    assert same == cursor
    reason, cursor = tick(load_location(), instance, earlier(cursor, 600))
    assert reason is None, "also after a restart"
    reason, _ = tick(location, instance, earlier(cursor, 600))
    assert reason == "nothing new to copy"


@pytest.mark.parametrize("end", ["report_run_failed", "report_run_canceled"])
def test_no_second_run_beside_one_and_one_that_did_not_succeed_is_tried_again(
    instance: dg.DagsterInstance, end: str
) -> None:
    location = load_location()
    _, cursor = tick(location, instance, None)
    begun = instance.create_run_for_job(
        location.resolve_job_def(JOB), status=dg.DagsterRunStatus.STARTED
    )
    reason, _ = tick(location, instance, earlier(cursor, 600))
    assert reason == f"run {begun.run_id} has not ended"
    getattr(instance, end)(begun)
    reason, cursor = tick(location, instance, cursor)
    assert reason is not None
    reason, _ = tick(location, instance, earlier(cursor, 600))
    assert reason is None


def test_a_failed_copy_says_what_is_to_be_done_and_leaves_the_other_remote_alone(
    project: Project, instance: dg.DagsterInstance, nas: Path
) -> None:
    location = load_location()
    result = run(location, instance, "offsite_gone_x_job")
    assert not result.success
    assert told(result)[INCIDENT].startswith("gone:x: rclone lsjson: ")
    assert run(location, instance).success

    put(project, 10, 20)
    files.cut(project.store.root / MAIN, 1_000)
    before = tree(nas)
    result = run(location, instance)
    assert not result.success
    assert told(result)[INCIDENT].startswith(f"nas:copy: not copied: {MAIN} cannot be read: ")
    assert told(result)["not_copied"].startswith(f"{MAIN}: cannot be read: ")
    assert tree(nas) == before


def test_no_event_and_no_file_holds_a_secret_of_a_remote(
    project: Project, instance: dg.DagsterInstance
) -> None:
    secret = "geheim-4711"
    url = f"http://ann:{secret}@127.0.0.1:9"
    remotes = [f":webdav,url='{url}',bearer_token={secret}:x", f":webdav,url={url}:x"]
    configure(project, *(f'{{remote: "{one}"}}' for one in remotes))
    location = load_location()
    names = [one.name for one in location.jobs or [] if one.name.startswith("offsite_")]
    assert len(names) == 2
    results = [run(location, instance, name) for name in names]
    assert not any(result.success for result in results)
    assert "connection refused" in told(results[0])[INCIDENT]
    assert "is not understood" in told(results[1])[INCIDENT]
    seen = [repr(event) for result in results for event in result.all_events]
    seen += [repr(record) for result in results for record in instance.all_logs(result.run_id)]
    assert secret not in "\n".join(seen)
    kept = tree(project.store.root)
    assert any(path.endswith(".db") for path in kept)
    assert [path for path, body in kept.items() if secret.encode() in body] == []
    valid = project.dccd("validate")
    assert valid.returncode == 0
    assert secret not in valid.stdout + valid.stderr


def test_validate_warns_of_remotes_and_restore_brings_files_back(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    valid = project.dccd("validate")
    assert valid.returncode == 0, "collecting needs no remote"
    warning = "storage.remotes: gone:x: rclone knows no remote 'gone': add it with `rclone config`"
    assert warning in valid.stdout
    assert "nas:" not in valid.stdout
    assert "Config is valid." in valid.stdout

    assert run(load_location(), instance).success
    frame = project.store.load(BTC_1H)
    shutil.rmtree(project.store.folder(BTC_1H))
    size = (project.folder / "nas/copy" / MAIN).stat().st_size
    assert (said := project.dccd("restore", "--remote", "nas-copy")).returncode == 0
    assert said.stdout.splitlines() == [
        f"{MAIN}: 10 rows, {size / 1_000:.3g} kB",
        f"nas:copy: 1 files of 1 series restored, {size / 1_000:.3g} kB; 0 are here already",
    ]
    assert project.store.load(BTC_1H).equals(frame)
    again = project.dccd("restore", "--series", str(BTC_1H))
    assert again.returncode == 1, "a remote that is away is no success"
    assert "nas:copy: 0 files of 0 series restored, 0 B; 1 are here already" in again.stdout
    assert "gone:x: rclone lsjson: " in again.stderr
    assert "Traceback" not in again.stderr
    wrong = project.dccd("restore", "--remote", "nsa")
    assert wrong.returncode == 1
    assert wrong.stderr == "no such remote; there are: nas-copy, gone-x\n"
    project.store.folder(BTC_1H).joinpath("2025.parquet").rename(project.folder / "moved")
    (project.folder / "nas/copy" / MAIN).unlink()
    none = project.dccd("restore", "--remote", "nas-copy", "--series", str(BTC_1H))
    assert (none.returncode, none.stderr) == (1, f"{BTC_1H}: nas:copy has nothing of it\n")
    shutil.rmtree(project.folder / "nas/copy")
    none = project.dccd("restore", "--remote", "nas-copy")
    assert (none.returncode, none.stderr) == (1, "nas:copy: no such folder\n")
    instead_of_rclone(project.folder / "bin", monkeypatch, "exit 7")
    broken = project.dccd("restore", "--remote", "nas-copy")
    assert (broken.returncode, broken.stderr) == (1, "nas:copy: rclone lsjson: exit code 7\n")


def test_old_files_are_removed_by_a_schedule_of_its_own_if_that_is_wanted(
    project: Project, nas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STAYS", 0)
    monkeypatch.setenv("DCCD_CONFIG", str(project.path))
    configure(project, "{remote: 'nas:copy'}")
    assert RETENTION not in load_location().resolve_asset_graph().get_all_asset_keys()
    text = project.path.read_text().replace("sync_interval", "retention: {ohlc: 7}, sync_interval")
    project.path.write_text(text)
    put(project, 0, 10)
    window = Window(at("2024-01-01"), at("2024-01-02"))
    rows = table(list(range(*window, HOUR)))
    project.store.merge(BTC_1H, "2024", rows, [window], "rest")
    newer = Window(at("2026-01-01"), at("2026-01-02"))
    rows = table(list(range(*newer, HOUR)))
    project.store.merge(BTC_1H, "2026", rows, [newer], "rest")
    location = load_location()
    schedules = {one.name: one for one in location.schedules or []}
    assert "offsite__retention_schedule" in schedules
    with project.instance() as instance:
        assert run(location, instance, "offsite__retention_job").success
        kept = latest(instance)
        assert kept["files"] == 0
        assert kept["kept"].endswith(f"{BTC_1H.path}/2024.parquet: nas:copy has no equal copy")
        assert run(location, instance).success
        assert run(location, instance, "offsite__retention_job").success
        found = latest(instance)
    # most hours of 2025 are still to be fetched
    assert found["removed"] == f"{BTC_1H.path}/2024.parquet"
    assert found["kept"] == f"{BTC_1H} 2025: is not complete: dccd backfill"
    assert project.store.existing_periods(BTC_1H) == ["2025", "2026"]
    shutil.rmtree(nas)
    with project.instance() as instance:
        failed = run(location, instance, "offsite__retention_job")
    assert failed.success, "nothing is old enough, so nothing is asked"


def latest(instance: dg.DagsterInstance) -> dict[str, Any]:
    record = instance.get_latest_materialization_event(RETENTION)
    assert record is not None
    assert record.asset_materialization is not None
    return {k: v.value for k, v in record.asset_materialization.metadata.items()}
