"""Who writes what: tasks are attached to feeds, which they share, and feeds to exchanges."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from dccd_core.config import Config
from dccd_core.exchanges.base import ExchangeError, Instrument, UnknownSymbol
from dccd_core.limits import Cancelled
from dccd_core.models import Channel, Series
from dccd_core.store.datastore import DataStore
from dccd_core.store.schemas import BookRow
from dccd_streams.book_feed import BookFeed
from dccd_streams.candle_feed import CandleFeed
from dccd_streams.feed import Feed
from dccd_streams.feeds import make_feed
from dccd_streams.heal_plan import Hole
from dccd_streams.jobs import Jobs
from dccd_streams.recorder import Recorder
from dccd_streams.resume import Left, read_left, rows_today
from dccd_streams.review import Review
from dccd_streams.shared_reader import SharedReader
from dccd_streams.tasks import Output, Task
from dccd_streams.timing import Timing
from dccd_streams.trade_feed import TradeFeed
from dccd_streams.transport import Transport
from dccd_streams.venue import Venue

log = logging.getLogger(__name__)

_RETRY = 30.0
_NOT_RUNNING = "the stream was not running"

FeedKey = tuple[str, str, Channel, int]


class Roster:
    """Attaches and detaches tasks. A series that two tasks name is written once."""

    def __init__(
        self,
        config: Config,
        store: DataStore,
        recorder: Recorder,
        timing: Timing,
        make_transport: Callable[[SharedReader], Transport],
    ) -> None:
        self._config, self._store, self._recorder = config, store, recorder
        self._timing, self._make_transport = timing, make_transport
        self._reader = SharedReader()
        self._lock = threading.RLock()
        self._venues: dict[str, Venue] = {}
        self._feeds: dict[FeedKey, Feed] = {}
        self._users: dict[Series, list[Task]] = {}
        self._stopped = False
        self._jobs = Jobs("stream-attach", 1)
        Review(self._jobs.beside("stream-review", 1), timing, self._carried, self._anew)

    def feeds(self) -> list[Feed]:
        """Every feed."""
        with self._lock:
            return list(self._feeds.values())

    def written(self) -> list[tuple[Feed, Series]]:
        """Every series that is written, with its feed."""
        return [(feed, series) for feed in self.feeds() for series in feed.series]

    def hanging(self) -> list[str]:
        """A sentence for each connection that is not seen to."""
        with self._lock:
            venues = list(self._venues.values())
        return [
            f"{connection.name} hangs: nothing has been done for it for {self._timing.down:g} s"
            for venue in venues
            for connection in venue.connections()
            if connection.hangs
        ]

    def attach(self, task: Task) -> None:
        """Look its market up, in the background, and begin to write."""
        if task.stopped or self._stopped:
            return
        try:
            venue = self._venue(task.job.exchange)
        except OSError as error:  # its budget of requests cannot be kept: the disk is full, say
            log.error("%s: %s", task.key, error)
            task.problem = str(error)
            self._jobs.submit(partial(self.attach, task), min(_RETRY, self._timing.quarantine))
            return
        venue.jobs.submit(partial(self._prepare, venue, task))

    def detach(self, task: Task) -> None:
        """Write nothing more of it that no other task needs."""
        with self._lock:
            for feed, series in task.attached:
                users = self._users.get(series, [])
                if task in users:
                    users.remove(task)
                if not users:
                    self._end(feed, series)
            task.attached = []

    def _end(self, feed: Feed, series: Series) -> None:
        self._users.pop(series, None)
        feed.stop_writing(series)
        if not feed.series:
            self._forget(feed)

    def _forget(self, feed: Feed) -> None:
        for key, found in list(self._feeds.items()):
            if found is feed:
                del self._feeds[key]
                self._venues[key[0]].drop(feed)

    def _carried(self) -> list[tuple[Venue, list[Feed]]]:
        with self._lock:
            return [
                (venue, [feed for key, feed in self._feeds.items() if key[0] == venue.name])
                for venue in self._venues.values()
            ]

    def _anew(self, venue: Venue, feeds: list[Feed]) -> None:
        """Begin all tasks of these feeds again, once nothing comes of them any more."""
        with self._lock:
            every = [self._users.get(series, []) for feed in feeds for series in feed.series]
            tasks = list(dict.fromkeys(task for users in every for task in users))
            for task in tasks:
                self.detach(task)
        for task in tasks:
            venue.jobs.submit(partial(self._prepare, venue, task), self._timing.acknowledge)

    def reload(self, config: Config, moved: set[str]) -> None:
        """Use another configuration; exchanges whose settings have moved are connected anew."""
        with self._lock:
            self._config = config
            ended = [self._venues.pop(name) for name in moved if name in self._venues]
        for venue in ended:
            deadline = time.monotonic() + self._timing.stop
            threading.Thread(target=venue.stop, args=(deadline,), daemon=True).start()

    def stop(self, deadline: float) -> bool:
        """End all connections; whether all that came before the deadline has been handed on."""
        with self._lock:
            self._stopped = True
            venues = list(self._venues.values())
        self._jobs.close(0.0)
        for venue in venues:
            venue.end()  # all, before one is waited for: it may take the time of the others
        done = [venue.stop(deadline) for venue in venues]
        self._reader.close(max(0.1, deadline - time.monotonic()))
        return all(done)

    def _venue(self, name: str) -> Venue:
        with self._lock:
            if name not in self._venues:
                self._venues[name] = Venue(
                    self._config,
                    name,
                    self._timing,
                    self._recorder.may_write,
                    partial(self._make_transport, self._reader),
                )
            return self._venues[name]

    # --- in the background ---------------------------------------------------------------------

    def _prepare(self, venue: Venue, task: Task) -> None:
        """Find the market of a task and attach it; again later if that fails."""
        if task.stopped or self._stopped:
            return
        again = partial(self._prepare, venue, task)
        if not self._recorder.ready.is_set():
            venue.jobs.submit(again, self._timing.tick)  # what a crash left is folded first
            return
        try:
            instrument = venue.instrument(task.symbol)
        except Cancelled:
            return
        except UnknownSymbol as error:
            log.error("%s: %s", task.key, error)
            task.problem, task.refused = str(error), True
            venue.jobs.submit(again, self._timing.quarantine)
            return
        except Exception as error:
            # whatever it is, a full disk say: nobody else tries again
            if isinstance(error, ExchangeError):
                log.warning("%s: %s", task.key, error)
            else:
                log.exception("%s: its market could not be looked up", task.key)
            task.problem = str(error)
            venue.jobs.submit(again, min(_RETRY, self._timing.quarantine))
            return
        task.problem, task.refused = None, False
        if not self._write_all(venue, task, instrument):
            venue.jobs.submit(again, min(_RETRY, self._timing.quarantine))

    def _write_all(self, venue: Venue, task: Task, instrument: Instrument) -> bool:
        """Begin each output that is not written yet; whether none failed."""
        done = True
        for output in task.outputs():
            try:
                self._write(venue, task, output, instrument)
            except Exception as error:
                # whatever it is, the other outputs begin, and this one is tried again
                log.exception("%s: %s", task.key, output.series)
                task.problem, done = f"{output.series}: {error}", False
        return done

    def _write(self, venue: Venue, task: Task, output: Output, instrument: Instrument) -> None:
        left = read_left(self._store, output.series, self._timing.reach_back)
        with self._lock:
            written = any(series == output.series for _, series in task.attached)
            if task.stopped or self._stopped or written:
                return
            self._make_room(venue, task, output, instrument)
            feed = self._feed(venue, task, output, instrument)
            users = self._users.setdefault(output.series, [])
            begins = not users
            if begins:
                self._begin(feed, task, output, left)
            if not venue.carries(feed):
                venue.add(feed)
            # at last: what has failed before is done again
            users.append(task)
            task.attached.append((feed, output.series))
        if begins:
            self._fill(feed, output.series, left.holes)

    def _make_room(self, venue: Venue, task: Task, output: Output, instrument: Instrument) -> None:
        """End a feed that has too few levels for a task; its other tasks use the new one too."""
        feed = self._feeds.get((venue.name, instrument.name, output.channel, output.span))
        if not isinstance(feed, BookFeed):
            return
        has, wanted = feed.subscription.depth, self._depth(task)
        if not has or has >= wanted > 0:  # 0 is all
            return
        for series in feed.series:
            for user in self._users.get(series, []):
                user.attached = [one for one in user.attached if one != (feed, series)]
                venue.jobs.submit(partial(self._prepare, venue, user))
            self._end(feed, series)

    def _feed(self, venue: Venue, task: Task, output: Output, instrument: Instrument) -> Feed:
        """The feed that an output is made of."""
        key = (venue.name, instrument.name, output.channel, output.span)
        if key not in self._feeds:
            subscription = task.subscription(output, instrument, self._depth(task))
            self._feeds[key] = make_feed(
                venue, subscription, output.series, self._recorder.journal, self._timing.settle
            )
        return self._feeds[key]

    def _depth(self, task: Task) -> int:
        """Levels a side of a book: all if every change is wanted of this pair, by whichever job."""
        jobs = [
            job
            for job in (task.job, *self._config.stream_jobs)
            if job.exchange == task.job.exchange and task.pair in job.pairs
        ]
        if any(Channel.BOOK_DELTAS in (*job.channels, *task.channels) for job in jobs):
            return 0
        return max((job.depth for job in jobs), default=task.job.depth)

    def _begin(self, feed: Feed, task: Task, output: Output, left: Left) -> None:
        """Let a feed write a series."""
        series, end = output.series, left.end
        if isinstance(feed, TradeFeed):
            feed.write(series, end, _NOT_RUNNING)
        elif isinstance(feed, BookFeed) and series.channel is Channel.BOOK:
            feed.write_rows(series, task.job.time_step, task.job.depth)
            if left.book is not None:  # a kill wrote no row that says so
                row = BookRow(left.book + 1, left.book + 1, [], [], False)
                self._recorder.journal.append_books(series, [row])
        elif isinstance(feed, BookFeed):
            feed.write_changes(series)
        if end is not None and isinstance(feed, CandleFeed):
            feed.resume_from(end, _NOT_RUNNING)
        elif end is not None and isinstance(feed, BookFeed):
            feed.resume_from(series, end, _NOT_RUNNING)
        if not isinstance(feed, TradeFeed) or series == feed.written.record:
            with feed.lock:
                feed.tally.recall(rows_today(self._store, series))

    def _fill(self, feed: Feed, series: Series, holes: list[Hole]) -> None:
        """Have filled what an earlier run has left of a series."""
        if isinstance(feed, CandleFeed) or (isinstance(feed, TradeFeed) and feed.healable):
            for hole in holes:
                feed.fill(replace(hole, series=(series,)))
