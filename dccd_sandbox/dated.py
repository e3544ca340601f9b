"""Quarterly contracts: a market's trading between two quarter days, a little higher."""

from datetime import UTC, date, datetime, timedelta
from functools import cached_property

from dccd_sandbox import spans
from dccd_sandbox.book import OrderBook
from dccd_sandbox.candles import Rows, raised
from dccd_sandbox.market import Market
from dccd_sandbox.tape import Tape

DATED_TICKS = 5
"""A quarterly contract trades as the perpetual does, at prices so much higher."""


class Dated(Market):
    """A quarterly contract: another market's trading between two quarter days, a little higher."""

    def __init__(self, model: Market, delivery: date) -> None:
        name = f"{model.symbol}_{delivery:%y%m%d}"
        super().__init__(name, model.base, model.quote, model.digits)
        self._model = model
        self.delivery_ms = _at_eight(delivery)
        # It is listed when the contract of two quarters before is delivered.
        onboard = _at_eight(quarter_day(delivery - timedelta(days=200)))
        self._onboard = max(onboard, model.first_ms)

    @cached_property
    def tape(self) -> Tape:
        """The model's trades within its life, raised."""
        return self._model.tape.within(self._onboard, self.delivery_ms).raised(DATED_TICKS)

    @cached_property
    def book(self) -> OrderBook:
        """A book of its own around them."""
        return self._model.book.beside(self.tape, self.symbol)

    @property
    def first_ms(self) -> int:
        """When it was listed."""
        return self._onboard

    @property
    def last_ms(self) -> int:
        """Its last millisecond."""
        return self.delivery_ms - 1

    def source_span(self, span: int, shift_ms: int = 0) -> int | None:
        """As the model."""
        return self._model.source_span(span, shift_ms)

    def join(self, rows: Rows, span: int, shift_ms: int) -> Rows:
        """As the model."""
        return self._model.join(rows, span, shift_ms)

    def source(self, span: int, start: int, stop: int, now: int) -> Rows:
        """The model's rows within its life, raised."""
        first, last = spans.open_of(self._onboard, span), self.delivery_ms
        rows = self._model.source(span, max(start, first), min(stop, last), now)
        return raised(rows, DATED_TICKS)


def quarter_day(day: date) -> date:
    """The last Friday of March, June, September or December, the first such day from `day` on."""
    year, month = day.year, -(-day.month // 3) * 3
    last = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    friday = last - timedelta(days=(last.weekday() - 4) % 7)
    return friday if friday >= day else quarter_day(last + timedelta(days=1))


def quarterlies(model: Market, now: int) -> list[Dated]:
    """The two contracts that are delivered next."""
    # A contract is gone at eight o'clock of its day.
    after = datetime.fromtimestamp(now / 1_000, UTC) + timedelta(hours=16)
    first = quarter_day(after.date())
    return [Dated(model, first), Dated(model, quarter_day(first + timedelta(days=1)))]


def _at_eight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, 8, tzinfo=UTC).timestamp()) * 1_000
