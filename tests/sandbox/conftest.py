"""A sandbox whose clock stands still."""

from collections.abc import Iterator

import pytest
from sandbox_client import NOW, Answer, Ask, ask

from dccd_sandbox import Sandbox, Settings


@pytest.fixture(scope="session")
def running() -> Iterator[Sandbox]:
    with Sandbox(Settings(now=NOW, frozen=True, weight_limit=0, many=2)) as box:
        yield box


@pytest.fixture
def box(running: Sandbox) -> Iterator[Sandbox]:
    """The default markets at NOW; every test starts without faults and counts."""
    running.reset()
    running.set_clock(NOW, frozen=True)
    yield running
    running.reset()


@pytest.fixture
def klines(box: Sandbox) -> Ask:
    def get(headers: dict[str, str] | None = None, **query: object) -> Answer:
        return ask(box, "/binance/api/v3/klines", headers, **query)

    return get
