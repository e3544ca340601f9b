"""StreamManager: the service as an object, to be embedded anywhere.

It has no signal handlers and no global state. Several may live in one process, on different data
paths. After `stop()` it can be started again.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from dccd_core.config import Config
from dccd_core.config_sections import StreamJob
from dccd_core.health import HealthMonitor
from dccd_core.models import Channel
from dccd_core.store.datastore import DataStore
from dccd_core.stream_status import ServiceStatus, StreamStatus, this_host, write_status
from dccd_streams.day_end import close_days
from dccd_streams.feed import Feed
from dccd_streams.instance import Instance, Shard, ShardStore
from dccd_streams.recorder import Recorder
from dccd_streams.roster import Roster
from dccd_streams.shared_reader import SharedReader
from dccd_streams.tasks import Task, configured, same, stopped_status, task_key
from dccd_streams.timing import Timing
from dccd_streams.transport import SocketTransport, Transport

log = logging.getLogger(__name__)


class StreamManager:
    """Runs the stream jobs of a configuration.

    `health` keeps a record of each series beside the status file. `shard` is the share of the
    pairs that this one collects. `failed` is set when it cannot go on and should be ended.
    """

    def __init__(
        self,
        config: Config,
        health: HealthMonitor | None = None,
        *,
        shard: Shard | None = None,
        timing: Timing | None = None,
        make_transport: Callable[[SharedReader], Transport] = SocketTransport,
    ) -> None:
        self.config, self.shard = config, shard
        self.timing = timing or Timing()
        self.health_port: int | None = None
        self.problem: str | None = None
        self._health, self._make_transport = health, make_transport
        self._data: Path = config.settings.data_path
        self._store = ShardStore(self._data, shard) if shard else DataStore(self._data)
        self._lock = threading.RLock()
        self._tasks: dict[str, Task] = {}
        self._roster: Roster | None = None
        self._recorder: Recorder | None = None
        self._instance: Instance | None = None
        self._stopping = threading.Event()
        self._status_thread: threading.Thread | None = None
        self._started = 0.0
        self._recorded: dict[str, int] = {}

    # --- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every configured task; returns at once. Started already: nothing.

        AlreadyRunning if another service writes this data path; OSError if it cannot be written.
        """
        with self._lock:
            if self._recorder is not None:
                return
            self._instance = Instance(self._data, self.shard)
            try:
                recorder = Recorder(self._store, self.timing, self._feeds, self._day_closed)
            except BaseException:
                self._instance.release()
                raise
            self._recorder, self._started = recorder, time.time()
            self._roster = Roster(
                self.config, self._store, recorder, self.timing, self._make_transport
            )
            self._stopping.clear()
            self._status_thread = threading.Thread(
                target=self._tell, name="stream-status", daemon=True
            )
            recorder.start()
            for key, job, pair in self._wanted(self.config):
                self._start(key, job, pair, job.channels)
            self._status_thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """End everything and flush it; returns when that is done, or after `timeout` seconds.

        Whether all that came is on disk; a thread that waits for a name server may live on a while.
        """
        deadline = time.monotonic() + (self.timing.stop if timeout is None else timeout)
        with self._lock:
            recorder, roster = self._recorder, self._roster
            self._recorder = self._roster = None
            if recorder is None or roster is None:
                return True
            self._stopping.set()
            for task in self._tasks.values():
                task.stopped = True
        # a third of the time is kept for the disk
        done = roster.stop(deadline - (deadline - time.monotonic()) / 3)
        done = recorder.stop(deadline) and done
        if self._status_thread is not None:
            self._status_thread.join(max(0.0, deadline - time.monotonic()))
        self._write_status(recorder)
        with self._lock:
            self._tasks.clear()
            if self._instance is not None:
                self._instance.release()
                self._instance = None
        return done

    @property
    def failed(self) -> bool:
        """Whether it cannot go on: a thread that must run has ended."""
        recorder = self._recorder
        return recorder is not None and recorder.failed.is_set()

    # --- tasks ---------------------------------------------------------------------------------

    def start_one(self, job: StreamJob, pair: str, channels: Iterable[Channel | str]) -> str:
        """Start one task and return its key at once; one that runs already is left alone.

        RuntimeError before `start()`; ValueError if it runs with another time_step or depth.
        """
        wanted = tuple(Channel(channel) for channel in channels)
        key = task_key(job, pair, wanted)
        with self._lock:
            if self._roster is None:
                raise RuntimeError("the manager is not started")
            running = self._tasks.get(key)
            if running is None:
                self._start(key, job, pair, wanted)
            elif not running.does(job):
                raise ValueError(
                    f"{key} runs with time_step {running.job.time_step} and depth "
                    f"{running.job.depth}: stop it first"
                )
        return key

    def stop_one(self, key: str) -> bool:
        """Stop one task; whether it ran. Its place is free at once, for a new one of this key."""
        with self._lock:
            task = self._tasks.pop(key, None)
            if task is None or self._roster is None:
                return False
            task.stopped = True
            self._roster.detach(task)
        return True

    def running_keys(self) -> list[str]:
        """The keys of the tasks that run, in the order of their start."""
        with self._lock:
            return list(self._tasks)

    def reload(self, config: Config) -> list[str]:
        """Use another configuration: stop what is gone, start what is new, restart what has
        changed, leave the rest alone. The keys that were touched.

        ValueError if it has another data path: that needs a restart.
        """
        if config.settings.data_path != self._data:
            raise ValueError(
                f"settings.data_path is {config.settings.data_path} now, but {self._data} is being "
                "written: restart the service"
            )
        with self._lock:
            before = {key: (job, pair) for key, job, pair in self._wanted(self.config)}
            after = {key: (job, pair) for key, job, pair in self._wanted(config)}
            moved = self._moved(config)
            self.config = config
            changed = [
                key
                for key, (job, _) in before.items()
                if key not in after or not same(job, after[key][0]) or job.exchange in moved
            ]
            starts = {
                key: (job, pair, job.channels)
                for key, (job, pair) in after.items()
                if key in changed or key not in before
            }
            for key, task in self._tasks.items():
                # what was started at run time shares feeds and connections with the others
                if key not in before and task.job.exchange in moved:
                    changed.append(key)
                    starts.setdefault(key, (task.job, task.pair, task.channels))
            for key in changed:
                self.stop_one(key)
            if self._roster is not None:
                self._roster.reload(config, moved)
                for key, start in starts.items():
                    if key not in self._tasks:
                        self._start(key, *start)
            return list(dict.fromkeys([*changed, *starts]))

    def _moved(self, config: Config) -> set[str]:
        """The exchanges whose settings are others now."""
        jobs = [job for one in (self.config, config) for job in one.stream_jobs]
        names = {job.exchange for job in (*jobs, *(task.job for task in self._tasks.values()))}
        return {n for n in names if self.config.exchange_settings(n) != config.exchange_settings(n)}

    def _start(self, key: str, job: StreamJob, pair: str, channels: tuple[Channel, ...]) -> None:
        task = Task(key, job, pair, channels, patience=self.timing.down)
        if self._roster is not None:
            self._roster.attach(task)
        self._tasks[key] = task  # at last: what cannot be attached at all is no task

    def _wanted(self, config: Config) -> list[tuple[str, StreamJob, str]]:
        found = configured(config)
        if self.shard is None:
            return found
        return [one for one in found if self.shard.has(one[1].exchange, one[2])]

    def _feeds(self) -> list[Feed]:
        return roster.feeds() if (roster := self._roster) else []

    def _day_closed(self, day: str) -> None:
        if (roster := self._roster) is not None:
            close_days(self._store, roster.written(), day)

    # --- status --------------------------------------------------------------------------------

    def status(self, config: Config | None = None) -> list[dict[str, object]]:
        """A dict for each task that is configured or runs; see StreamStatus for its keys.

        With a freshly loaded `config` tasks that were added at run time or are not started yet
        are shown too.
        """
        return [msgspec.to_builtins(one) for one in self.statuses(config)]

    def statuses(self, config: Config | None = None) -> list[StreamStatus]:
        """The same as objects."""
        with self._lock:
            tasks = dict(self._tasks)
            found = [
                tasks.pop(key).status() if key in tasks else stopped_status(key, job, pair)
                for key, job, pair in self._wanted(config or self.config)
            ]
            return [*found, *(task.status() for task in tasks.values())]

    def service_status(self) -> ServiceStatus:
        """The whole service, as it is written to disk."""
        return self._service_status(self._recorder)

    def _service_status(self, recorder: Recorder | None) -> ServiceStatus:
        problems = [self.problem]
        if recorder is not None:
            problems += [recorder.disk_problem, recorder.fold_problem]
        if (roster := self._roster) is not None:
            problems += roster.hanging()
        return ServiceStatus(
            pid=os.getpid(),
            host=this_host(),
            started=self._started,
            written=time.time(),
            shard=str(self.shard) if self.shard else None,
            health_port=self.health_port,
            problem="; ".join(filter(None, problems)) or None,
            pending_bytes=recorder.journal.pending if recorder else 0,
            last_fold=recorder.last_fold if recorder else None,
            ended=self._stopping.is_set(),
            streams=self.statuses(),
        )

    def _tell(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(self.timing.status):
            self._write_status(self._recorder)
            if self._health is not None and self._feeds() and time.monotonic() >= due:
                due = time.monotonic() + self.timing.fold
                self._record_health(self._health)

    def _write_status(self, recorder: Recorder | None) -> None:
        try:
            write_status(self._data, self._service_status(recorder))
        except OSError as error:
            log.warning("the status cannot be written: %s", error)

    def _record_health(self, health: HealthMonitor) -> None:
        """Count the rows since the last time, and what is wrong now."""
        roster = self._roster
        for feed, series in roster.written() if roster else []:
            rows = feed.tally.rows - self._recorded.get(str(series), 0)
            self._recorded[str(series)] = feed.tally.rows
            silent = "no data" if feed.tally.silent_since is not None else None
            try:
                health.record(series, time.time(), max(0, rows), feed.tally.problem or silent)
            except OSError as error:
                log.warning("the health of %s cannot be written: %s", series, error)
