"""The rate limiter: rates, pauses, bans, damaged state, and what several processes do to it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from dccd_core.exchanges.base import Banned, Limits
from dccd_core.limits import Cancelled, Limiter

MINUTE = Limits(weight=5_400, seconds=60, burst=600, page=1_000)
START = 1_760_000_000.0  # 20 s into a minute
SPAWN = multiprocessing.get_context("spawn")


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float, cancel: threading.Event | None) -> None:
        self.now += seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits" / "binance@api.binance.com"


def limiter(path: Path, clock: Time, limits: Limits = MINUTE) -> Limiter:
    return Limiter(path, limits, clock=clock, sleep=clock.sleep)


def spent_in_any_window(grants: list[tuple[float, float]], seconds: float) -> float:
    """The most weight granted in a window of the length, of (moment, weight)."""
    return max(
        sum(weight for moment, weight in grants if start <= moment <= start + seconds)
        for start, _ in grants
    )


def test_burst_then_steady_rate_and_never_more_in_any_minute(path: Path) -> None:
    clock = Time()
    turn = limiter(path, clock)
    waits, grants = [], []
    for _ in range(1_000):
        waits.append(turn.acquire(20))
        grants.append((clock.now, 20.0))
    assert waits[:30] == pytest.approx([0.0] * 30, abs=1e-4)  # the burst of 600
    assert waits[30:] == pytest.approx([20 / 90] * 970, abs=1e-4)
    assert spent_in_any_window(grants, 60) == pytest.approx(6_000, abs=20)
    assert spent_in_any_window(grants, 60) <= 6_000


def test_idle_time_earns_the_burst_back_and_no_more(path: Path) -> None:
    clock = Time()
    turn = limiter(path, clock)
    turn.acquire(600)
    clock.now += 2.0  # 180 units
    assert turn.acquire(180) == 0
    assert turn.acquire(90) == pytest.approx(1.0)
    clock.now += 86_400
    assert turn.acquire(600) == 0
    assert turn.acquire(9) == pytest.approx(0.1)


def test_a_request_heavier_than_the_burst_waits_and_an_impossible_one_is_refused(
    path: Path,
) -> None:
    clock = Time()
    turn = limiter(path, clock)
    assert turn.acquire(1_500) == pytest.approx(10.0)
    assert turn.acquire(0) == 0
    with pytest.raises(ValueError, match="weight 6001 in a budget of 6000"):
        turn.acquire(6_001)
    with pytest.raises(ValueError, match="weight -1"):
        turn.acquire(-1)


@pytest.mark.parametrize("wrong", [Limits(0, 60, 1, 1), Limits(1, 0, 1, 1), Limits(1, 1, -1, 1)])
def test_a_budget_that_means_nothing_is_refused(path: Path, wrong: Limits) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        Limiter(path, wrong)


def test_the_budget_is_shared_and_outlives_its_object(path: Path) -> None:
    clock = Time()
    limiter(path, clock).acquire(600)
    assert limiter(path, clock).acquire(90) == pytest.approx(1.0)


def test_a_pause_holds_for_all_and_the_latest_end_counts(path: Path) -> None:
    clock = Time()
    one, other = limiter(path, clock), limiter(path, clock)
    one.pause(30)
    other.pause(5)
    # no burst when it ends: all who waited would ask at once
    assert other.acquire(90) == pytest.approx(31.0)
    one.pause(30, free=90)
    assert other.acquire(90) == pytest.approx(30.0)
    assert other.acquire(90) == pytest.approx(1.0)
    assert one.acquire(90) == pytest.approx(1.0)


def test_a_pause_overtakes_who_has_booked_already(path: Path) -> None:
    clock = Time()
    other = limiter(path, clock)
    steps = iter([lambda: other.pause(50)])

    def sleep(seconds: float, cancel: threading.Event | None) -> None:
        next(steps, lambda: None)()
        clock.now += seconds

    turn = Limiter(path, MINUTE, clock=clock, sleep=sleep)
    turn.acquire(600)
    turn.acquire(360)  # would wait 4 s; the pause comes in the first of them
    assert clock.now >= START + 50


def test_a_ban_is_raised_at_once_by_every_object_until_it_ends(path: Path) -> None:
    clock = Time()
    one, other = limiter(path, clock), limiter(path, clock)
    assert one.ban(120) == START + 120
    one.ban(60)
    for turn in (one, other):
        with pytest.raises(Banned, match=r"no request before 2025-10-09T08:55:20Z.*@api") as caught:
            turn.acquire(1)
        assert caught.value.retry_after == pytest.approx(120)
    clock.now += 120
    assert other.acquire(9) == pytest.approx(0.1)


def test_a_ban_reaches_who_waits_already(path: Path) -> None:
    clock = Time()
    other = limiter(path, clock)

    def sleep(seconds: float, cancel: threading.Event | None) -> None:
        clock.now += seconds
        other.ban(600)

    turn = Limiter(path, MINUTE, clock=clock, sleep=sleep)
    turn.pause(300)
    with pytest.raises(Banned):
        turn.acquire(1)
    assert clock.now < START + 2


def test_an_absurd_pause_is_bounded(path: Path) -> None:
    clock = Time()
    turn = limiter(path, clock)
    assert turn.ban(1e15) == START + 7 * 86_400
    turn.pause(-5)


@pytest.mark.parametrize(("used", "waits"), [(0.5, 0.0), (0.89, 0.0), (0.9, 40.0), (1.3, 40.0)])
def test_usage_by_others_makes_everyone_wait_for_the_next_minute(
    path: Path, used: float, waits: float
) -> None:
    clock = Time()
    limiter(path, clock).observe(used)
    assert limiter(path, clock).acquire(0) == pytest.approx(waits)


def test_the_minute_is_that_of_the_exchange(path: Path) -> None:
    clock = Time()
    turn = limiter(path, clock)
    turn.observe(0.95, at=START + 37)  # its clock is ahead of ours: 3 s are left
    assert turn.acquire(0) == pytest.approx(3.0)


def test_two_programs_on_one_address_stay_within_the_limit(path: Path) -> None:
    """The exchange counts 6,000 a minute; a stranger spends half of it as fast as it can."""
    clock = Time()
    turn = limiter(path, clock)
    counted: dict[int, float] = {}
    for number in range(4_000):
        turn.acquire(2)
        minute = int(clock.now // 60)
        stranger = 2.0 if number % 3 == 0 else 0.0
        counted[minute] = counted.get(minute, 0.0) + 2.0 + stranger
        turn.observe(counted[minute] / 6_000, clock.now)
    assert max(counted.values()) <= 6_000
    assert max(counted.values()) >= 5_300


@pytest.mark.parametrize("garbage", [b"", b"x", b"\0" * 40, b"dlm1" + b"\xff" * 36, b"a" * 9_000])
def test_damaged_state_starts_anew_without_a_burst(path: Path, garbage: bytes) -> None:
    clock = Time()
    limiter(path, clock).acquire(600)
    path.write_bytes(garbage)
    turn = limiter(path, clock)
    assert turn.acquire(90) == pytest.approx(1.0)
    assert turn.acquire(90) == pytest.approx(1.0)
    clock.now += 60
    assert turn.acquire(600) == 0


def test_a_single_flipped_bit_is_noticed(path: Path) -> None:
    clock = Time()
    limiter(path, clock).pause(3_600)
    whole = bytearray(path.read_bytes())
    for place in range(len(whole)):
        spoilt = bytearray(whole)
        spoilt[place] ^= 0x40
        path.write_bytes(spoilt)
        assert limiter(path, clock).acquire(90) == pytest.approx(1.0, abs=1e-4)
        clock.now = START


def test_a_deleted_file_gives_no_second_burst(path: Path) -> None:
    clock = Time()
    turn = limiter(path, clock)
    turn.acquire(600)
    path.unlink()
    assert turn.acquire(90) == pytest.approx(1.0)
    path.unlink()
    path.parent.rmdir()
    assert turn.acquire(90) == pytest.approx(1.0)


def test_a_clock_set_back_by_a_year_stops_nothing(path: Path) -> None:
    clock = Time()
    turn = limiter(path, clock)
    turn.acquire(690)
    turn.pause(10)
    clock.now -= 365 * 86_400
    assert turn.acquire(90) == pytest.approx(11.0, abs=1e-3)
    assert turn.acquire(90) == pytest.approx(1.0, abs=1e-3)


def test_a_clock_set_back_while_waiting_does_not_prolong_the_wait(path: Path) -> None:
    clock = Time()
    slept = []

    def sleep(seconds: float, cancel: threading.Event | None) -> None:
        slept.append(seconds)
        clock.now += seconds
        if len(slept) == 3:
            clock.now -= 365 * 86_400

    turn = Limiter(path, MINUTE, clock=clock, sleep=sleep)
    turn.acquire(600)
    turn.acquire(900)
    assert sum(slept) == pytest.approx(10.0, abs=1e-3)


def test_a_clock_set_forward_and_back_again_keeps_a_ban(path: Path) -> None:
    clock = Time()
    turn = limiter(path, clock)
    clock.now += 365 * 86_400
    turn.ban(600)
    clock.now -= 365 * 86_400
    with pytest.raises(Banned) as caught:
        turn.acquire(1)
    assert caught.value.retry_after == pytest.approx(600, abs=1e-3)


def test_a_folder_that_cannot_hold_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file" / "limiter", tmp_path):
        with pytest.raises(OSError, match=r"cannot keep the request budget here .*writable") as e:
            Limiter(wrong, MINUTE)
        assert str(wrong) in str(e.value)


def test_cancel_ends_a_wait_and_refuses_the_next(path: Path) -> None:
    turn, cancel = Limiter(path, MINUTE), threading.Event()
    turn.pause(3_600)
    caught: list[BaseException] = []
    started = threading.Event()

    def work() -> None:
        started.set()
        try:
            turn.acquire(1, cancel)
        except Cancelled as error:
            caught.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    started.wait()
    cancel.set()
    worker.join(30)
    assert len(caught) == 1
    with pytest.raises(Cancelled):
        turn.acquire(1, cancel)


def frozen() -> float:
    return START


def ignore(seconds: float, cancel: threading.Event | None) -> None:
    """Book on without waiting."""


def fast() -> float:
    """A hundred seconds a second."""
    return START + 100 * time.monotonic()  # of all processes


def fast_sleep(seconds: float, cancel: threading.Event | None) -> None:
    time.sleep(seconds / 100)


def book(
    path: Path,
    clock: Callable[[], float],
    sleep: Callable[[float, threading.Event | None], None],
    answers: "multiprocessing.Queue[tuple[list[float], float]]",
) -> None:
    turn = Limiter(path, Limits(100, 1, 20, 1), clock=clock, sleep=sleep)
    waits: list[float] = []

    def loop() -> None:
        waits.extend(turn.acquire(0.5) for _ in range(50))

    threads = [threading.Thread(target=loop) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put((waits, clock()))


def in_four_processes(
    path: Path,
    clock: Callable[[], float],
    sleep: Callable[[float, threading.Event | None], None],
) -> list[tuple[list[float], float]]:
    answers: multiprocessing.Queue[tuple[list[float], float]] = SPAWN.Queue()
    workers = [SPAWN.Process(target=book, args=(path, clock, sleep, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    results = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    return results


def test_four_processes_share_one_schedule_to_the_last_turn(path: Path) -> None:
    """In a moment that stands still, 400 turns are 40 at once and then one each 5 ms."""
    Limiter(path, Limits(100, 1, 20, 1), clock=frozen)
    waits = sorted(wait for taken, _ in in_four_processes(path, frozen, ignore) for wait in taken)
    assert len(waits) == 400
    assert waits[:40] == pytest.approx([0.0] * 40, abs=1e-5)
    steps = [after - before for before, after in pairwise(waits[39:])]
    assert steps == pytest.approx([0.005] * 360, abs=1e-5)


def test_four_processes_with_a_running_clock_do_not_exceed_the_rate(path: Path) -> None:
    Limiter(path, Limits(100, 1, 20, 1), clock=fast)
    begin = fast()
    end = max(ended for _, ended in in_four_processes(path, fast, fast_sleep))
    assert 20 + 100 * (end - begin) >= 400 * 0.5


def ban_here(path: Path) -> None:
    Limiter(path, MINUTE).ban(3_600)


def test_a_ban_in_one_process_is_raised_in_another(path: Path) -> None:
    turn = Limiter(path, MINUTE)
    turn.acquire(1)
    worker = SPAWN.Process(target=ban_here, args=(path,))
    worker.start()
    worker.join(60)
    with pytest.raises(Banned, match="no request before"):
        turn.acquire(1)


LOOP = """
import sys
from pathlib import Path
from dccd_core.exchanges.base import Limits
from dccd_core.limits import Limiter
turn = Limiter(Path(sys.argv[1]), Limits(1e9, 1, 1e9, 1))
print("go", flush=True)
while True:
    turn.acquire(1)
"""


def test_a_kill_in_the_middle_leaves_neither_a_lock_nor_a_torn_state(path: Path) -> None:
    """The loops take next to nothing of this budget: only a state read as torn has no burst."""
    turn = Limiter(path, Limits(1e9, 1, 1e9, 1))
    workers = [
        subprocess.Popen([sys.executable, "-c", LOOP, str(path)], stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "go\n"
    for number, worker in enumerate(workers):
        time.sleep(0.0013 * number)
        os.kill(worker.pid, signal.SIGKILL)
        worker.communicate()
        assert turn.acquire(1) == 0
    assert turn.acquire(9e8) == 0
