"""The options that several commands share, and what a shell completes for them."""

from pathlib import Path
from typing import Annotated

import typer

from dccd_core.config import ConfigError, load_config
from dccd_core.exchanges import load_all
from dccd_core.models import span_label
from dccd_pipelines.pairs_option import PAIRS


def complete_exchange() -> list[str]:
    """The exchanges that there are."""
    return list(load_all())


def complete_pair(context: typer.Context) -> list[str]:
    """The pairs of the configuration, none if it cannot be read."""
    try:
        config = load_config(context.params.get("config"), unset=lambda _: None)
        return sorted({str(series.symbol) for series in config.series()})
    except ConfigError:
        return []


def complete_span() -> list[str]:
    """The spans of all exchanges."""
    return sorted({span_label(span) for one in load_all().values() for span in one.spans})


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The configuration file.", show_default="./config.yml"),
]
ExchangeOption = Annotated[
    str | None, typer.Option("--exchange", "-e", autocompletion=complete_exchange)
]
PairsOption = Annotated[
    list[str] | None,
    typer.Option(*PAIRS, help="One or several.", autocompletion=complete_pair),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
