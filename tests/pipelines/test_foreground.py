"""Runs in a process of our own, which Dagster does not watch."""

import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
from projects import REPOSITORY, Project, spoil

from dccd_pipelines.backfill import run_backfill
from dccd_pipelines.foreground import UNFINISHED, end_dead, held
from dccd_sandbox import Sandbox


def unfinished(instance: dg.DagsterInstance) -> list[str]:
    return [run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))]


def test_a_run_whose_process_was_killed_has_failed_and_one_that_lives_goes_on(
    project: Project, box: Sandbox
) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2025-12-01")
    data = project.store.root
    box.set_faults(spoil("slow", "BTCUSDT", "2026-01-01", seconds=600))
    with project.instance() as instance:
        with project.start("backfill") as process:
            while process.poll() is None and not box.stats()["faults"]:
                time.sleep(0.1)
            [run] = unfinished(instance)
            assert end_dead(instance) == []
            assert unfinished(instance) == [run]
            process.kill()
        assert unfinished(instance) == [run]
        assert end_dead(instance) == [run]
        assert unfinished(instance) == end_dead(instance) == []
        ended = instance.get_run_by_id(run)
        assert ended is not None
        assert ended.status is dg.DagsterRunStatus.FAILURE
    assert list((data / ".dccd" / "locks").glob("run-*")) == []
    box.reset()
    assert run_backfill(project.config).ok
    assert list((data / ".dccd" / "locks").glob("run-*")) == []


def test_the_next_backfill_ends_what_a_killed_one_left(project: Project, box: Sandbox) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2025-12-01")
    box.set_faults(spoil("slow", "BTCUSDT", "2026-01-01", seconds=600))
    with project.start("backfill") as process:
        while process.poll() is None and not box.stats()["faults"]:
            time.sleep(0.1)
        process.kill()
    with project.instance() as instance:
        assert len(unfinished(instance)) == 1
    box.reset()
    assert run_backfill(project.config).ok
    with project.instance() as instance:
        assert unfinished(instance) == []


def test_a_run_of_another_data_path_is_dead_only_if_its_own_lock_is_free(
    project: Project, tmp_path: Path
) -> None:
    project.write("pairs: [BTC/USDT], span: 1d, start: 2025-12-01")

    @dg.job
    def job() -> None:
        pass

    with project.instance() as instance:
        with held(tmp_path / "other") as tags:
            run = instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
            assert end_dead(instance) == []
        assert end_dead(instance) == [run.run_id]
        away = dict.fromkeys(tags, "/not/here/run-1.lock")
        instance.create_run_for_job(job, tags=away, status=dg.DagsterRunStatus.STARTED)
        assert end_dead(instance) == []


NOHUP = """\
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from dccd_pipelines.signals import stop_signals
with stop_signals(print):
    signal.raise_signal(signal.SIGHUP)
    print("goes on")
"""


def test_what_nohup_started_outlives_its_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOHUP], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "goes on\n"
