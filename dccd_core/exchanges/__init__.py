"""The exchanges. The folder is the registry: each module of it that defines one is found."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from dccd_core.exchanges.base import Exchange


@cache
def load_all() -> dict[str, Exchange]:
    """Every exchange of the folder by its name, sorted."""
    found: dict[str, Exchange] = {}
    for module_info in iter_modules(__path__):
        module = import_module(f"{__name__}.{module_info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Exchange) and hasattr(value, "name"):
                found[value.name] = value()
    return dict(sorted(found.items()))


def load(name: str) -> Exchange:
    """One exchange by name; KeyError if the folder has none of it."""
    return load_all()[name]
