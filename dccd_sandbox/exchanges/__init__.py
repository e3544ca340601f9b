"""The simulated exchanges: this folder is their registry, EXCHANGE in a module its class."""

import importlib
import pkgutil

from dccd_sandbox.exchanges.base import Exchange, World


def load_all(world: World) -> dict[str, Exchange]:
    """Every exchange of this folder, by the name of its module, in one world of markets."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__) if info.name != "base")
    return {name: importlib.import_module(f"{__name__}.{name}").EXCHANGE(world) for name in names}
