"""Each kind of fault, and which requests it hits."""

import http.client
import json
import time
from datetime import timedelta
from email.utils import parsedate_to_datetime

import pytest
from sandbox_client import Ask, ask

from dccd_sandbox import Rule, Sandbox
from dccd_sandbox.clock import epoch_ms

PATH = "/binance/api/v3/klines"
START = epoch_ms("2026-05-01")
PAGE = {"symbol": "BTCUSDT", "interval": "1m", "startTime": START, "limit": 300}


def test_429_with_seconds_and_with_a_date(box: Sandbox, klines: Ask) -> None:
    box.set_faults(Rule("429", retry_after=7))
    answer = klines(**PAGE)
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert answer.json["code"] == -1003
    box.set_faults(Rule("429", retry_after=90, as_date=True))
    headers = klines(**PAGE).headers
    until = parsedate_to_datetime(headers["retry-after"])
    assert until - parsedate_to_datetime(headers["date"]) == timedelta(seconds=90)


def test_418(box: Sandbox, klines: Ask) -> None:
    box.set_faults(Rule("418"))
    answer = klines(**PAGE)
    assert (answer.status, answer.headers["retry-after"]) == (418, "120")
    assert "banned" in answer.json["msg"]


def test_5xx_varies_and_is_no_json(box: Sandbox, klines: Ask) -> None:
    box.set_faults(Rule("5xx"))
    statuses = set()
    for limit in range(1, 30):
        answer = klines(**PAGE | {"limit": limit})
        statuses.add(answer.status)
        assert answer.headers["content-type"].startswith("text/html")
    assert statuses == {500, 502, 503, 504}


def test_slow_gives_the_right_answer_later(box: Sandbox, klines: Ask) -> None:
    right = klines(**PAGE).body
    box.set_faults(Rule("slow", seconds=0.2))
    began = time.monotonic()
    assert klines(**PAGE).body == right
    assert time.monotonic() - began >= 0.2


def test_cut_ends_in_the_middle_of_the_body(box: Sandbox, klines: Ask) -> None:
    right = klines(**PAGE).body
    box.set_faults(Rule("cut"))
    with pytest.raises(http.client.IncompleteRead) as caught:
        klines(**PAGE)
    assert right.startswith(caught.value.partial)
    assert 0 < len(caught.value.partial) < len(right)


def test_truncated_has_a_right_length_and_wrong_json(box: Sandbox, klines: Ask) -> None:
    right = klines(**PAGE).body
    box.set_faults(Rule("truncated"))
    answer = klines(**PAGE)
    assert answer.status == 200
    assert int(answer.headers["content-length"]) == len(answer.body) < len(right)
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.body)


def test_wrong_is_a_page_a_shape_or_another_time(box: Sandbox, klines: Ask) -> None:
    box.set_faults(Rule("wrong"))
    kinds = set()
    for limit in range(1, 60):
        answer = klines(**PAGE | {"limit": limit})
        assert answer.status == 200
        if answer.headers["content-type"].startswith("text/html"):
            kinds.add("page")
            continue
        content = answer.json
        if isinstance(content, list) and isinstance(content[0], list):
            kinds.add("later" if content[0][0] > START + 86_400_000 else "earlier")
            assert abs(content[0][0] - START) > 86_400_000
        else:
            kinds.add(json.dumps(content))
    assert {"page", "later", "earlier"} < kinds
    assert len(kinds) == 6


def test_empty(box: Sandbox, klines: Ask) -> None:
    box.set_faults(Rule("empty"))
    answer = klines(**PAGE)
    assert (answer.status, answer.json) == (200, [])


def test_missing_hour(box: Sandbox, klines: Ask) -> None:
    right = klines(**PAGE).json
    box.set_faults(Rule("missing_hour"))
    got = klines(**PAGE).json
    gone = [row[0] for row in right if row not in got]
    assert len(gone) == 60
    assert gone[-1] - gone[0] == 59 * 60_000
    assert gone[0] % 3_600_000 == 0


def test_revised_changes_one_candle_once(box: Sandbox, klines: Ask) -> None:
    right = klines(**PAGE).json
    box.set_faults(Rule("revised", count=1))
    got = klines(**PAGE).json
    (changed,) = [(a, b) for a, b in zip(right, got, strict=True) if a != b]
    assert changed[0][:2] == changed[1][:2]
    assert float(changed[1][4]) == float(changed[1][2]) > float(changed[0][4])
    assert float(changed[1][5]) > float(changed[0][5])
    assert klines(**PAGE).json == right


def test_faults_on_candles_leave_other_answers_alone(box: Sandbox) -> None:
    box.set_faults(*(Rule(kind) for kind in ("empty", "missing_hour", "revised")))
    assert ask(box, "/binance/api/v3/exchangeInfo").json["symbols"]
    assert box.stats()["faults"] == {}


def test_path_query_and_count_narrow_a_rule(box: Sandbox, klines: Ask) -> None:
    box.set_faults(Rule("429", path=PATH, query={"symbol": "ETHUSDT"}, count=2))
    eth = PAGE | {"symbol": "ETHUSDT"}
    assert [klines(**PAGE).status, ask(box, "/binance/api/v3/time").status] == [200, 200]
    assert [klines(**eth).status for _ in range(4)] == [429, 429, 200, 200]
    assert box.stats()["faults"] == {"429": 2}


def test_rate_and_seed_are_kept_in_any_order(box: Sandbox, klines: Ask) -> None:
    def hit(seed: int, order: range) -> set[int]:
        box.set_faults(Rule("429", rate=0.3, seed=seed))
        return {n for n in order if klines(**PAGE | {"limit": n}).status == 429}

    first = hit(1, range(1, 200))
    assert first == hit(1, range(199, 0, -1))
    assert first != hit(2, range(1, 200))
    assert 30 < len(first) < 90


def test_every_kind_at_once_lets_some_through(box: Sandbox, klines: Ask) -> None:
    kinds = ("429", "418", "5xx", "cut", "truncated", "wrong", "empty", "missing_hour", "revised")
    box.set_faults(*(Rule(kind, rate=0.1) for kind in kinds))
    for limit in range(1, 250):
        try:
            klines(**PAGE | {"limit": limit})
        except http.client.IncompleteRead:
            continue
    stats = box.stats()
    assert set(stats["faults"]) == set(kinds)
    assert stats["requests"] == 249
    assert 50 < 249 - sum(stats["faults"].values()) < 150


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"kind": "429", "rat": 1}', "'rat'"),
        ('{"kind": "late"}', "'late'"),
        ('{"kind": "429", "rate": 2}', "0..1"),
        ('{"kind": "429", "rate": "1"}', "want int or float"),
        ('{"kind": "429", "count": true}', "want int"),
        ("[1]", "want an object"),
        ("{", "Expecting"),
    ],
)
def test_rules_in_error_are_refused(box: Sandbox, content: str, words: str) -> None:
    connection = http.client.HTTPConnection(box.host, box.port, timeout=20)
    connection.request("POST", "/_sandbox/faults", content)
    response = connection.getresponse()
    text = json.loads(response.read())["error"]
    connection.close()
    assert response.status == 400
    assert words in text
