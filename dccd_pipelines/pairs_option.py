"""`--pairs`: several values after one flag, when a command runs and when a shell completes it."""

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

PAIRS = ("--pairs", "-p")
_BEFORE = "dccd.before"  # what stands before the word that a shell wants to complete


class PairsCommand(TyperCommand):
    """A command that takes `--pairs A B` as `--pairs A --pairs B`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; what is after the last of `args` is a pair if it is after `--pairs`."""
        ctx.meta[_BEFORE] = ["", *spread([*args, "next"])][-2]
        return super().parse_args(ctx, spread(args))

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The parser knows of one value a flag, so it asks the command for the second one."""
        if ctx.meta[_BEFORE] in PAIRS and not incomplete.startswith("-"):
            pairs = next(option for option in self.params if option.name == "pairs")
            return pairs.shell_complete(ctx, incomplete)
        return super().shell_complete(ctx, incomplete)


def spread(arguments: Sequence[str]) -> list[str]:
    """`--pairs A B` as `--pairs A --pairs B`, which the parser understands."""
    made: list[str] = []
    option = ""
    for argument in arguments:
        if argument.startswith("-"):
            option = argument if argument in PAIRS else ""
        elif option and made[-1] != option:
            made.append(option)
        made.append(argument)
    return made
