"""Several iterables at once, each in a thread of its own, as one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


def interleave(sources: Sequence[Iterable[T]], stop: Callable[[], None]) -> Iterator[T]:
    """The items of all sources as they come; the first exception of any, after all have ended.

    `stop` must make the sources end early; it is called when the consumer does not go on.
    """
    arrived: SimpleQueue[T | None] = SimpleQueue()

    def drain(source: Iterable[T]) -> None:
        try:
            for item in source:
                arrived.put(item)
        finally:
            arrived.put(None)

    with ThreadPoolExecutor(len(sources)) as pool:
        drained = [pool.submit(drain, source) for source in sources]
        left = len(sources)
        try:
            while left:
                item = arrived.get()
                if item is None:
                    left -= 1
                else:
                    yield item
        except BaseException:
            stop()
            raise
    for one in drained:
        one.result()
