"""The service's status as Prometheus metrics."""

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dccd_core.stream_status import ServiceStatus

_LABELS = ("key", "exchange", "pair")
_COUNTERS = {
    "rows": "Rows written since the start",
    "reconnects": "Connections that ended unplanned",
    "gaps": "Holes that were noticed",
    "lost": "Holes that nothing could fill",
    "healed": "Rows fetched by REST for holes",
}


class StatusCollector(Collector):
    """Turns one status into metrics."""

    def __init__(self, status: ServiceStatus) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        """All metrics: of each stream, and of the whole."""
        status, now = self._status, time.time()
        for name, text in _COUNTERS.items():
            counter = CounterMetricFamily(f"dccd_stream_{name}", text, labels=_LABELS)
            for one in status.streams:
                counter.add_metric((one.key, one.exchange, one.pair), getattr(one, name))
            yield counter
        state = GaugeMetricFamily(
            "dccd_stream_state", "1 for the present state", labels=(*_LABELS, "state")
        )
        age = GaugeMetricFamily(
            "dccd_stream_message_age_seconds", "Since the last message", labels=_LABELS
        )
        lag = GaugeMetricFamily(
            "dccd_stream_lag_seconds", "Receipt after exchange time", labels=_LABELS
        )
        for one in status.streams:
            labels = (one.key, one.exchange, one.pair)
            state.add_metric((*labels, one.state), 1)
            if one.last_message is not None:
                age.add_metric(labels, max(0.0, now - one.last_message))
            if one.lag is not None:
                lag.add_metric(labels, one.lag)
        pending = GaugeMetricFamily("dccd_pending_bytes", "Bytes that wait for the disk")
        pending.add_metric((), status.pending_bytes)
        problem = GaugeMetricFamily("dccd_problem", "1 if the whole service has a problem")
        problem.add_metric((), float(status.problem is not None))
        yield from (state, age, lag, pending, problem)


def metrics_text(status: ServiceStatus) -> bytes:
    """The metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(status))
    return generate_latest(registry)
