"""Adding and removing pairs: the change, the checks, and all that must stay."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dccd_core.config import Config, ConfigError, load_config, parse_config
from dccd_core.config_edit import Edit, add_pair, remove_pair
from dccd_core.exchanges import load_all
from dccd_core.models import Series

BLOCK = """\
# mine
settings: {data_path: "data"}   # here

histo_jobs:
    # hourly
    - exchange: binance
      pairs:
          - BTC/USDT          # the first
          - 'ETH/USDT'        # the second
          # between
          - SOL/USDT
      span: 3600 # an hour

    # daily
    - {exchange: binance, span: 1d, pairs: [BTC/USDT, "ETH/USDT" ]}   # all of it
    # last words

alerts: {max_consecutive_errors:   5}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yml"
    path.write_text(BLOCK)
    return path


def keys(edit: Edit) -> tuple[list[str], list[str]]:
    return [str(series) for series in edit.changed], [str(series) for series in edit.unchanged]


def series(path: Path) -> list[str]:
    return [str(series) for series in load_config(path).series()]


def changed(path: Path, before: str = BLOCK) -> str:
    """What is different now: - for each line that went, + for each that came."""
    old, new = before.splitlines(), path.read_text().splitlines()
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    gone, came = old[start : len(old) - end], new[start : len(new) - end]
    return "\n".join([*(f"-{line}" for line in gone), *(f"+{line}" for line in came)])


def test_adds_to_the_job_of_the_same_exchange_and_span(file: Path) -> None:
    edit = add_pair(file, "binance", ["ADA/USDT", "XRP/USDT"], "1h")
    assert keys(edit) == (["binance/ohlc/1h/ADA-USDT", "binance/ohlc/1h/XRP-USDT"], [])
    assert changed(file) == "+          - ADA/USDT\n+          - XRP/USDT"


def test_adds_to_a_list_in_brackets_with_its_quotes(file: Path) -> None:
    add_pair(file, "binance", ["ADA/USDT"], 86_400)
    assert changed(file).split("\n")[1] == (
        '+    - {exchange: binance, span: 1d, pairs: [BTC/USDT, "ETH/USDT", "ADA/USDT"]}'
        " # all of it"
    )


def test_adds_a_job_for_a_span_that_has_none(file: Path) -> None:
    add_pair(file, "binance", ["BTC/USDT", "BTC/USDT"], "1w")
    assert changed(file) == (
        "+    - exchange: binance\n+      pairs:\n+          - BTC/USDT\n+      span: 1w"
    )
    assert series(file)[-1] == "binance/ohlc/1w/BTC-USDT"


def test_what_is_there_already_stays_and_is_told(file: Path) -> None:
    before = file.stat()
    edit = add_pair(file, "binance", ["BTC/USDT"], "1h")
    assert keys(edit) == ([], ["binance/ohlc/1h/BTC-USDT"])
    assert (file.read_text(), file.stat().st_ino) == (BLOCK, before.st_ino)
    edit = add_pair(file, "binance", ["BTC/USDT", "ADA/USDT"], "1h")
    assert keys(edit) == (["binance/ohlc/1h/ADA-USDT"], ["binance/ohlc/1h/BTC-USDT"])


@pytest.mark.parametrize(
    ("pair", "span", "difference"),
    [
        ("BTC/USDT", "1h", "-          - BTC/USDT          # the first"),
        ("ETH/USDT", "1h", "-          - 'ETH/USDT'        # the second"),
        ("SOL/USDT", "1h", "-          - SOL/USDT"),
    ],
)
def test_removes_one_line_with_its_comment(
    file: Path, pair: str, span: str, difference: str
) -> None:
    edit = remove_pair(file, "binance", [pair], span)
    assert keys(edit)[0] == [f"binance/ohlc/{span}/{pair.replace('/', '-')}"]
    assert changed(file) == difference


@pytest.mark.parametrize(
    ("pair", "left"), [("BTC/USDT", '["ETH/USDT"]'), ("ETH/USDT", "[BTC/USDT]")]
)
def test_removes_from_brackets(file: Path, pair: str, left: str) -> None:
    remove_pair(file, "binance", [pair], "1d")
    start, _, comment = changed(file).split("\n")[1].partition("}")
    assert start == f"+    - {{exchange: binance, span: 1d, pairs: {left}"
    assert comment.split() == ["#", "all", "of", "it"]


def test_the_last_pair_takes_its_job_along(file: Path) -> None:
    remove_pair(file, "binance", ["BTC/USDT", "SOL/USDT", "ETH/USDT"], 3600)
    assert file.read_text() == (
        '# mine\nsettings: {data_path: "data"}   # here\n\nhisto_jobs:\n    # hourly\n\n'
        '    # daily\n    - {exchange: binance, span: 1d, pairs: [BTC/USDT, "ETH/USDT" ]}'
        "   # all of it\n    # last words\n\nalerts: {max_consecutive_errors:   5}\n"
    )
    remove_pair(file, "binance", ["BTC/USDT"], "1d")
    with pytest.raises(ConfigError, match="nothing to collect"):
        remove_pair(file, "binance", ["ETH/USDT"], "1d")
    assert series(file) == ["binance/ohlc/1d/ETH-USDT"]


def test_the_last_job_may_go_if_streams_are_left_and_come_back(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    text = (
        "settings: {data_path: d}\nhisto_jobs:  # none left?\n"
        "  - exchange: binance\n    pairs:\n      - BTC/USDT\n    span: 1h\n"
        "stream_jobs: [{exchange: binance, pairs: [BTC/USDT], channels: [trades]}]\n"
    )
    file.write_text(text)
    remove_pair(file, "binance", ["BTC/USDT"], "1h")
    assert "histo_jobs:  # none left?\nstream_jobs" in file.read_text()
    add_pair(file, "binance", ["BTC/USDT"], "1h")
    assert file.read_text() == text


@pytest.mark.parametrize("written", ["[]", "~", "null", ""])
def test_adds_the_first_job_where_there_is_none(tmp_path: Path, written: str) -> None:
    file = tmp_path / "config.yml"
    stream = "stream_jobs: [{exchange: binance, pairs: [BTC/USDT], channels: [trades]}]\n"
    file.write_text(f"settings: {{data_path: d}}\nhisto_jobs: {written} # soon\n{stream}")
    add_pair(file, "binance", ["BTC/USDT"], "1h")
    job = "  - exchange: binance\n    pairs:\n      - BTC/USDT\n    span: 1h\n"
    text = file.read_text()
    assert (
        re.sub(" +#", " #", text)
        == f"settings: {{data_path: d}}\nhisto_jobs: # soon\n{job}{stream}"
    )
    file.write_text(f"settings: {{data_path: d}}\n{stream}")
    add_pair(file, "binance", ["BTC/USDT"], "1h")
    assert file.read_text() == f"settings: {{data_path: d}}\n{stream}histo_jobs:\n{job}"
    file.write_text(f"settings: {{data_path: d}}\n{stream.strip()}")
    add_pair(file, "binance", ["BTC/USDT"], "1h")
    assert file.read_text() == f"settings: {{data_path: d}}\n{stream}histo_jobs:\n{job.rstrip()}"


def test_comments_below_a_removed_item_stay(tmp_path: Path) -> None:
    """They may belong to what comes next. The one beside the item goes with it."""
    file = tmp_path / "config.yml"
    text = (
        "settings: {data_path: d}\nhisto_jobs:\n  - exchange: binance\n    span: 1h\n    pairs:\n"
        "      # of all\n      - A/B # a\n      # of C/D\n\n      - C/D # c\n\n    # of the start\n"
        "    start: 2020-01-01 # s\n\n  # of 1d\n"
        "  - exchange: binance\n    pairs: [A/B] # d\n    span: 1d\n    start: # e\n\n# of alerts\n"
        "alerts: {}\n"
    )
    file.write_text(text)
    remove_pair(file, "binance", ["C/D"], "1h")
    left = text.replace("      - C/D # c\n", "")
    assert file.read_text() == left
    remove_pair(file, "binance", ["A/B"], "1d")
    job = "  - exchange: binance\n    pairs: [A/B] # d\n    span: 1d\n    start: # e\n"
    assert file.read_text() == left.replace(job, "")
    file.write_text(text)
    remove_pair(file, "binance", ["A/B"], "1h")
    assert file.read_text() == text.replace("      - A/B # a\n", "")
    file.write_text(text)
    remove_pair(file, "binance", ["C/D", "A/B"], "1h")
    start, end = text.index("  - exchange"), text.index("\n  # of 1d")
    assert file.read_text() == text[:start] + text[end:]


def test_what_is_added_stands_above_the_comments_below_its_list(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    text = (
        "settings: {data_path: d}\nhisto_jobs:\n  - exchange: binance\n    span: 1h\n    pairs:\n"
        "      - A/B\n\n    # of the start\n    start: 2020-01-01 # s\n\n# of alerts\nalerts: {}\n"
    )
    file.write_text(text)
    add_pair(file, "binance", ["C/D"], "1h")
    text = text.replace("- A/B\n", "- A/B\n      - C/D\n")
    assert file.read_text() == text
    add_pair(file, "binance", ["C/D"], "1d")
    job = "  - exchange: binance\n    pairs:\n      - C/D\n    span: 1d\n"
    assert file.read_text() == text.replace("# s\n", f"# s\n{job}")


def test_the_example_comes_back_byte_for_byte(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    example = (Path(__file__).parents[2] / "config.example.yml").read_bytes()
    file.write_bytes(example)
    for pairs, span in ((["ADA/USDT", "XRP/USDT"], "1h"), (["ADA/USDT"], "1m"), (["A/B"], "1w")):
        add_pair(file, "binance", pairs, span)
        assert file.read_bytes() != example
        remove_pair(file, "binance", pairs, span)
        assert file.read_bytes() == example
    for pairs, span in ((["ADA/USDT"], "1h"), (["A/B"], "1w")):
        add_pair(file, "binance", pairs, span)
    for pairs, span in ((["ADA/USDT"], "1h"), (["A/B"], "1w")):
        remove_pair(file, "binance", pairs, span)
    assert file.read_bytes() == example


def test_indentation_that_differs_from_list_to_list_is_made_one(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(
        "# %\n---   # start\nsettings:\n    data_path:   d\nhisto_jobs:\n  -   exchange: binance\n"
        "      pairs:\n      - A/B  # a\n      span: 1h\nalerts:\n    max_consecutive_errors:   5\n"
    )
    add_pair(file, "binance", ["C/D"], "1h")
    assert file.read_text() == (
        "# %\n---   # start\nsettings:\n    data_path: d\nhisto_jobs:\n  -   exchange: binance\n"
        "      pairs:\n        -   A/B # a\n        -   C/D\n      span: 1h\n"
        "alerts:\n    max_consecutive_errors: 5\n"
    )


def test_brackets_over_several_lines_become_one_line(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    text = (
        "settings: {data_path: d}\nhisto_jobs: [\n"
        "  {exchange: binance, span: 1h, pairs: [\n    BTC/USDT,\n    ETH/USDT,\n  ]},\n]\n"
    )
    file.write_text(text)
    add_pair(file, "binance", ["ADA/USDT"], "1d")
    remove_pair(file, "binance", ["BTC/USDT"], "1h")
    assert file.read_text().split("\n")[1:] == [
        "histo_jobs: [{exchange: binance, span: 1h, pairs: [ETH/USDT]}, "
        "{exchange: binance, pairs: [ADA/USDT], span: 1d}]",
        "",
    ]


def test_words_are_written_back_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    text = (
        "settings: {data_path: d, ui_auth_token: ~}\nhisto_jobs:\n- exchange: binance\n"
        "  pairs: ['A/B', \"C/D\", E/F]\n  span: 0060\n  start: 2020-01-01 00:00\n  schedule: off\n"
        "  retry_delay: 1.50\n- exchange: binance\n  pairs: [A/B]\n  span: 1h\n  start:\n"
        "alerts: {webhook_url: Null, max_consecutive_errors: +5}\n"
    )
    file.write_text(text)
    add_pair(file, "binance", ["G/H"], 60)
    assert changed(file, text).split("\n")[1] == "+  pairs: ['A/B', \"C/D\", E/F, G/H]"
    remove_pair(file, "binance", ["G/H"], 60)
    assert file.read_text() == text


def test_windows_line_ends_a_missing_last_one_and_a_mark_stay(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    text = (
        "\ufeffsettings:\r\n  data_path: d\r\nhisto_jobs:\r\n- exchange: binance\r\n  span: 1h\r\n"
    )
    text += "  pairs:\r\n  - BTC/USDT"
    file.write_bytes(text.encode())
    add_pair(file, "binance", ["ADA/USDT"], "1h")
    assert file.read_bytes().decode() == text + "\r\n  - ADA/USDT"
    remove_pair(file, "binance", ["ADA/USDT"], "1h")
    assert file.read_bytes().decode() == text


def refused(path: Path, before: str, said: str, *, add: tuple[str, str, str | int]) -> None:
    exchange, pair, span = add
    with pytest.raises(ConfigError) as caught:
        add_pair(path, exchange, [pair], span)
    assert str(caught.value).removeprefix(f"{path}: ") == said
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("binance", "btc/usdt", "1h"),
         "pairs[0]: btc/usdt: write BASE/QUOTE in upper case, as BTC/USDT; did you mean BTC/USDT?"),
        (("binance", "A/B]\nx: [", "1h"),
         r"pairs[0]: 'A/B]\nx: [': write BASE/QUOTE in upper case, as BTC/USDT"),
        (("binanse", "A/B", "1h"),
         "exchange: binanse: no such exchange; there are: {exchanges}; did you mean binance?"),
        (("binance", "A/B", 61),
         "span: 61: binance has no such span, nor one to build it from; it has 1s, 1m, 3m, "
         "5m, 15m, 30m, 1h, 2h, 4h, 6h, 8h, "
         "12h, 1d, 3d, 1w; did you mean 1m?"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(
    file: Path, arguments: tuple[str, str, str | int], said: str
) -> None:
    refused(file, BLOCK, said.replace("{exchanges}", ", ".join(load_all())), add=arguments)


def test_what_is_not_there_cannot_be_removed(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        remove_pair(file, "binance", ["BTC/USDT", "SOL/USDC", "QQQ/X"], "1h")
    assert [problem.text for problem in caught.value.problems] == [
        "binance/ohlc/1h/SOL-USDC is not in histo_jobs; did you mean SOL/USDT?",
        "binance/ohlc/1h/QQQ-X is not in histo_jobs",
    ]
    with pytest.raises(ConfigError) as caught:
        remove_pair(file, "binance", ["SOL/USDT"], "1d")
    assert [problem.text for problem in caught.value.problems] == [
        "binance/ohlc/1d/SOL-USDT is not in histo_jobs; did you mean binance/ohlc/1h/SOL-USDT?"
    ]
    assert file.read_text() == BLOCK


def test_a_broken_file_is_not_made_worse(file: Path) -> None:
    file.write_text(BLOCK.replace("alerts", "alert"))
    with pytest.raises(
        ConfigError, match=r"config.yml:18: alert: no such key; did you mean alerts?"
    ):
        add_pair(file, "binance", ["ADA/USDT"], "1h")


@pytest.mark.parametrize(
    ("jobs", "place"),
    [
        ("- {exchange: binance, span: 1h, pairs: &all [BTC/USDT, ETH/USDT]}\n"
         "- {exchange: binance, span: 1d, pairs: *all}\n", ": histo_jobs"),
        ("- {exchange: binance, span: 1h, pairs: &one [BTC/USDT, ETH/USDT]}\n", ":3"),
        ("- exchange: binance\n  span: 1h\n  pairs: [\n    BTC/USDT, # one\n    ETH/USDT]\n", ":6"),
        ("- exchange: binance\n  span: 1h\n  pairs: [\n    BTC/USDT, ETH/USDT # two\n  ]\n", ":5"),
        ('- exchange: binance\n  span: 1h\n  pairs: ["BTC\\u002FUSDT", ETH/USDT]\n', ":5"),
        ("- exchange: binance\n  span: 1h\n  pairs:\n  - >-\n    ETH/USDT\n  # one\n", ":6"),
        ("- {exchange: binance, span: 1h, pairs:[BTC/USDT, ETH/USDT]}\n", ":3"),
        ("- {exchange: binance, span: 1h, !!str pairs: [BTC/USDT, ETH/USDT]}\n", ":1"),
    ],
)  # fmt: skip
def test_a_layout_that_only_a_person_can_edit_is_left_alone(
    tmp_path: Path, jobs: str, place: str
) -> None:
    file = tmp_path / "config.yml"
    text = "settings: {data_path: d}\nhisto_jobs:\n" + jobs
    for edited in (text, "# head\n---\n" + text):
        file.write_text(edited)
        load_config(file)
        for edit, pair in ((add_pair, "ADA/USDT"), (remove_pair, "ETH/USDT")):
            with pytest.raises(ConfigError) as caught:
                edit(file, "binance", [pair], "1h")
            moved = place
            if edited != text and place[1:].isdigit():
                moved = f":{int(place[1:]) + 2}"
            assert str(caught.value) == (
                f"{file}{moved}: only a person can edit this layout"
                " (an anchor or comments in brackets, perhaps)"
            )
        assert file.read_text() == edited


def test_mode_and_link_are_kept(tmp_path: Path) -> None:
    real = tmp_path / "real" / "config.yml"
    real.parent.mkdir()
    real.write_text(BLOCK)
    real.chmod(0o640)
    link = tmp_path / "config.yml"
    link.symlink_to(real)
    add_pair(link, "binance", ["ADA/USDT"], "1h")
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert "ADA/USDT" in real.read_text()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["config.yml", "config.yml", "real"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_owner_is_kept(file: Path) -> None:
    os.chown(file, 1234, 4321)
    add_pair(file, "binance", ["ADA/USDT"], "1h")
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 4321)


def test_a_failed_write_leaves_the_old_file_alone(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        ConfigError, match=r"config.yml: cannot be written: No space left on device"
    ):
        add_pair(file, "binance", ["ADA/USDT"], "1h")
    assert [path.name for path in file.parent.iterdir()] == ["config.yml"]
    assert file.read_text() == BLOCK


def test_a_read_only_or_missing_file_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match=r"config.yml: cannot be written: it is read-only"):
        add_pair(file, "binance", ["ADA/USDT"], "1h")
    for path in (file.parent / "none.yml", file.parent / "none" / "config.yml"):
        with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
            add_pair(path, "binance", ["ADA/USDT"], "1h")


def test_edits_at_the_same_time_are_all_kept(file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dccd_core.config_edit import add_pair\n"
        "add_pair(Path(sys.argv[1]), 'binance', [sys.argv[2]], '1h')"
    )
    pairs = [f"NEW{number}/USDT" for number in range(4)]
    running = [subprocess.Popen([sys.executable, "-c", code, str(file), pair]) for pair in pairs]
    assert [process.wait(60) for process in running] == [0] * len(pairs)
    assert {f"binance/ohlc/1h/NEW{number}-USDT" for number in range(4)} <= set(series(file))


PAIRS = [f"{base}/USDT" for base in ("BTC", "ETH", "SOL", "ADA")]
COMMENTS = st.sampled_from(["", "  # a, b - c [d]: {e}", " #"])
GAPS = st.sampled_from(["", "\n", "  # words, and - dashes: [x]\n"])


@st.composite
def layouts(draw: st.DrawFn) -> str:
    """A valid file in one of many layouts, with jobs for some spans."""
    indent = draw(st.sampled_from(["", " ", "  ", "    "]))
    text = "settings: {data_path: d}\nhisto_jobs:" + draw(COMMENTS) + "\n"
    for span in draw(st.lists(st.sampled_from(["1m", "1h", "1d"]), min_size=1, unique=True)):
        pairs = draw(st.lists(st.sampled_from(PAIRS), min_size=1, unique=True))
        keys = [["exchange: binance"], [f"span: {span}"], draw(lists(pairs))]
        keys += draw(st.sampled_from([[], [["start:"]], [["schedule: ~"]]]))
        lines = [line for key in draw(st.permutations(keys)) for line in key]
        text += f"{indent}- {lines[0]}\n" + "".join(f"{indent}  {line}\n" for line in lines[1:])
        text += draw(GAPS)
    end = draw(st.sampled_from(["", "alerts: {}\n", "# the end"]))
    text = (text + end).removesuffix(draw(st.sampled_from(["", "\n"])))
    return draw(st.sampled_from(["", "\ufeff", "# first\n--- # second\n"])) + text


@st.composite
def files(draw: st.DrawFn) -> str:
    """A layout with the line ends of some system."""
    return draw(layouts()).replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


@st.composite
def lists(draw: st.DrawFn, pairs: list[str]) -> list[str]:
    """Pairs in block style with comments, in brackets, or in brackets over several lines."""
    quote = draw(st.sampled_from(["", "'", '"']))
    quoted = [f"{quote}{pair}{quote}" for pair in pairs]
    style = draw(st.integers(0, 2))
    if style == 0:
        gap = draw(st.sampled_from([" ", "   "]))
        items = [f"  -{gap}{pair}{draw(COMMENTS)}" for pair in quoted]
        below = st.sampled_from([[], [""], ["  # below"], ["", "# below: - x", ""]])
        return [
            "pairs:" + draw(COMMENTS),
            *(line for item in items for line in (item, *draw(below))),
        ]
    if style == 1:
        return [f"pairs: [{', '.join(quoted)}]{draw(COMMENTS)}"]
    comma = draw(st.sampled_from(["", ","]))
    rest = [*(f"  {pair}," for pair in quoted[:-1]), f"  {quoted[-1]}{comma}"]
    return ["pairs: [", *rest, f"]{draw(COMMENTS)}"]


@settings(max_examples=100, deadline=None)
@given(text=files(), span=st.sampled_from(["1m", "1h", "1d", "1w"]))
def test_any_layout_is_edited_and_comes_back(
    text: str, span: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Added, the series is there beside all others; removed, all but spaces is as before."""
    file = tmp_path_factory.mktemp("edit") / "config.yml"
    file.write_bytes(text.encode())
    before = load_config(file)
    add_pair(file, "binance", ["NEW/USDT"], span)
    added = file.read_bytes().decode()
    assert comments(added) == comments(text)
    assert {str(series) for series in without(load_config(file), before)} == {
        f"binance/ohlc/{span}/NEW-USDT"
    }
    remove_pair(file, "binance", ["NEW/USDT"], span)
    after = file.read_bytes().decode()
    assert load_config(file).model_dump() == before.model_dump()
    assert tidy(after) == tidy(text)
    assert after.count("\r\n") == (after.count("\n") if "\r\n" in text else 0)
    assert after.endswith("\n") == text.endswith("\n")


def comments(text: str) -> list[str]:
    return re.findall("#[^\r\n]*", text)


def tidy(text: str) -> str:
    """Without spaces and the comma behind the last item of a list, which an edit sets anew."""
    return re.sub(r"\s+|,(?=\s*\])", "", text)


@settings(max_examples=100, deadline=None)
@given(text=files(), data=st.data())
def test_any_pair_can_be_removed(
    text: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One piece is cut out, and no comment that has a line for itself outside of what goes."""
    config = parse_config(text, Path("config.yml"))
    assume(len(config.series()) > 1)
    victim = data.draw(st.sampled_from(config.series()))
    file = tmp_path_factory.mktemp("edit") / "config.yml"
    file.write_bytes(text.encode())
    remove_pair(file, "binance", [str(victim.symbol)], victim.span)
    expected = [series for series in config.series() if series != victim]
    assert load_config(file).series() == expected
    left = file.read_bytes().decode()
    one, other = tidy(text), tidy(left)
    assert common(one, other) + common(one[::-1], other[::-1]) >= len(other) > 0
    job_goes = len(config.job_of(victim).pairs) == 1
    between = r"^ *(# words[^\r\n]*)" if job_goes else r"^ *(#[^\r\n]*)"
    found = [re.findall(between, some, re.MULTILINE) for some in (left, text)]
    assert found[0] == found[1]


def common(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    differ = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))


def without(config: Config, before: Config) -> set[Series]:
    assert set(before.series()) <= set(config.series())
    return set(config.series()) - set(before.series())
