"""The page about exchanges says what the code does."""

from pathlib import Path

from dccd_pipelines.capabilities import capabilities


def test_the_page_is_what_the_code_says() -> None:
    page = Path(__file__).parent.parent / "docs" / "exchanges.md"
    assert page.read_text() == capabilities(), "run `make docs`"
