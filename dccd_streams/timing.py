"""Every limit of time of the service, in one place; tests shorten them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """All in seconds.

    `tick`: how often what came is decoded and the journal made durable. `acknowledge`: how long an
    exchange may take to answer a subscription. A feed is silent after `factor` times its usual
    pause, but not before `quiet_least` nor after `quiet_most`. `settle`: how late a trade may
    come, and how old the newest trade may be that REST knows. `ahead`: how far the exchange's clock
    may be ahead of ours; a later time is not believed. `down`: how long a stream may be
    without a connection or a book before it counts as silent. `first_fold`: when a new service has
    files to look at. `steady`: a connection that held so
    long is tried again at once. `quarantine`: when what was refused is tried again at the latest.
    """

    tick: float = 0.25
    acknowledge: float = 10.0
    factor: float = 20.0
    quiet_least: float = 20.0
    quiet_most: float = 1_800.0
    settle: float = 3.0
    ahead: float = 5.0
    down: float = 60.0
    backoff_first: float = 0.5
    backoff_most: float = 60.0
    steady: float = 60.0
    quarantine: float = 3_600.0
    overlap: float = 60.0
    heal_first: float = 5.0
    heal_most: float = 1_800.0
    heal_tries: int = 10
    reach_back: float = 86_400.0
    mark: float = 2.0
    first_fold: float = 60.0
    fold: float = 900.0
    day_grace: float = 120.0
    status: float = 2.0
    stop: float = 8.0
    lifetime_part: float = 0.9
