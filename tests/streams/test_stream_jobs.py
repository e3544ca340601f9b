"""Jobs that wait, and those that take long beside others that must not wait for them."""

import threading

from dccd_streams.jobs import Jobs


def test_two_long_jobs_do_not_keep_a_third_waiting() -> None:
    jobs = Jobs("test", 4)
    free, done, ready = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        free.wait(60)

    jobs.submit(ready.set)
    assert ready.wait(60), "one thread is there, and idle"
    for _ in range(2):
        jobs.submit(hold, 0.05)
    jobs.submit(done.set, 0.1)
    assert done.wait(60)
    free.set()
    assert jobs.close(60)


def test_no_more_threads_than_allowed() -> None:
    jobs, free = Jobs("test", 2), threading.Event()

    def hold() -> None:
        free.wait(60)

    for _ in range(6):
        jobs.submit(hold)
    assert sum(one.name.startswith("test-") for one in threading.enumerate()) <= 2
    free.set()
    assert jobs.close(60)


def test_jobs_beside_others_are_closed_with_them() -> None:
    jobs, ran = Jobs("test", 1), threading.Event()
    beside = jobs.beside("beside", 1)
    beside.submit(ran.set)
    assert ran.wait(60)
    assert jobs.close(60)
    ran.clear()
    beside.submit(ran.set)
    assert not ran.wait(0.1)
