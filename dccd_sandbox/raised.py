"""A market that trades as another one does, at prices that are some ticks higher."""

from functools import cached_property

from dccd_sandbox.book import OrderBook
from dccd_sandbox.candles import Rows, raised
from dccd_sandbox.market import Market
from dccd_sandbox.tape import Tape


class RaisedMarket(Market):
    """Another market's trading, raised: a perpetual beside its spot pair, or pairs by the hundred.
    It has a book of its own around those trades."""

    def __init__(self, pair: tuple[str, str, str], model: Market, ticks: int) -> None:
        super().__init__(*pair, model.digits)
        self._model = model
        self._ticks = ticks

    @cached_property
    def tape(self) -> Tape:
        """The model's trades, raised."""
        return self._model.tape.raised(self._ticks)

    @cached_property
    def book(self) -> OrderBook:
        """A book of its own around them."""
        return self._model.book.beside(self.tape, self.symbol)

    @property
    def first_ms(self) -> int:
        """The model's listing."""
        return self._model.first_ms

    @property
    def last_ms(self) -> int | None:
        """As the model."""
        return self._model.last_ms

    def source_span(self, span: int, shift_ms: int = 0) -> int | None:
        """As the model."""
        return self._model.source_span(span, shift_ms)

    def join(self, rows: Rows, span: int, shift_ms: int) -> Rows:
        """As the model."""
        return self._model.join(rows, span, shift_ms)

    def source(self, span: int, start: int, stop: int, now: int) -> Rows:
        """The model's rows, raised."""
        return raised(self._model.source(span, start, stop, now), self._ticks)
