"""What people read: incidents and the daily digest as Slack shows them."""

import re
from collections.abc import Sequence
from datetime import timedelta

from dccd_core.incidents import Change, Incident

SHOWN = 10
# Characters of a message: Discord takes 2,000.
LONGEST = 1_900
# Characters of what is wrong with one: the most that fit.
_ROOMS = (1_500, 500, 150, 50, 15)
_QUERY = re.compile(r"(?<=[\w/])\?[^\s?]+(?=: )")
_SIGNS = {
    "opened": ":red_circle:",
    "closed": ":large_green_circle:",
    "remind": ":large_orange_circle:",
}


def message(change: Change, ui: str, now: float) -> str:
    """One message about incidents of a kind: what is wrong, where to look, what to do.

    Where that would be too long what is wrong is cut: `dccd status` has all of it.
    """
    for room in _ROOMS:
        text = _message(change, ui, now, room)
        if len(text) <= LONGEST:
            break
    return text


def _message(change: Change, ui: str, now: float, room: int) -> str:
    if len(change.incidents) == 1:
        return _single(change, change.incidents[0], ui, now, room)
    first = change.incidents[0].last
    head = f"{_SIGNS[change.what]} *{len(change.incidents)} × {escape(first.kind)}*"
    about = f" of {escape(first.group)}" if first.group else ""
    state = {"opened": "", "closed": " ended", "remind": " still open"}[change.what]
    lines = [f"• {_line(change, one, ui, now, room)}" for one in change.incidents[:SHOWN]]
    more = len(change.incidents) - SHOWN
    lines += [f"• … and {more} more: `dccd status` lists them"] if more > 0 else []
    cure = f"\n{escape(first.cure)}" if first.cure and change.what != "closed" else ""
    return f"{head}{about}{state}\n" + "\n".join(lines) + cure


def _single(change: Change, incident: Incident, ui: str, now: float, room: int) -> str:
    sign, last = _SIGNS[change.what], incident.last
    head = f"{sign} *{escape(last.kind)}: {_linked(last.subject, last.path, ui)}*"
    if change.what == "closed":
        return f"{head} is over{_ended(change, incident, now)}"
    still = f" – for {duration(now - incident.opened)} now" if change.what == "remind" else ""
    cure = f"\n{escape(last.cure)}" if last.cure else ""
    return f"{head}{still}\n{escape(_cut(last.text, room))}{cure}"


def _line(change: Change, incident: Incident, ui: str, now: float, room: int) -> str:
    last = incident.last
    name = _linked(last.subject, last.path, ui)
    if change.what == "closed":
        return f"{name}{_ended(change, incident, now)}"
    return f"{name}: {escape(_cut(last.text, room))}"


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _ended(change: Change, incident: Incident, now: float) -> str:
    """How long it was, and what became of it."""
    said = change.ended.get(incident.last.key, "")
    length = duration((incident.gone or now) - incident.opened)
    return f" after {length}" + (f": {escape(said)}" if said else "")


def _linked(name: str, path: str, ui: str) -> str:
    return f"<{ui}{path}|{escape(name)}>" if path and ui else escape(name)


def digest(
    figures: Sequence[tuple[str, str]], open_incidents: Sequence[Incident], *, complete: bool = True
) -> str:
    """The daily word: all is well, or what is not."""
    sign = ":large_orange_circle:" if open_incidents else ":white_check_mark:"
    count = len(open_incidents)
    many = "1 incident is open" if count == 1 else f"{count} incidents are open"
    head = many if count else "All is well" if complete else "No incident is open"
    lines = [f"• {escape(one.last.key)}" for one in open_incidents[:SHOWN]]
    told = ", ".join(f"{value} {name}" for name, value in figures)
    return "\n".join([f"{sign} *dccd: {head}*", escape(told), *lines])


def escape(text: str) -> str:
    """Text in which Slack finds no links or mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def without_queries(error: str) -> str:
    """An error without the query strings of its addresses: what went wrong comes after them."""
    return _QUERY.sub("", error)


def many(count: int, noun: str) -> str:
    """A count and what is counted: 1 page, 2,000 pages."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def some(names: Sequence[str], most: int = 5) -> str:
    """The first of many names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 40 s, 3 min 20 s, 2 h 10 min, 5 d 3 h."""
    whole = timedelta(seconds=max(0, round(seconds)))
    days, rest = whole.days, whole.seconds
    parts = [(days, "d"), (rest // 3600, "h"), (rest % 3600 // 60, "min"), (rest % 60, "s")]
    shown = [f"{count} {unit}" for count, unit in parts if count][:2]
    return " ".join(shown) or "0 s"
