"""Names that are imported when they are first used: `import planahead` takes no time that only JAX needs (PEP 562)."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def lazy_names(
    package: str, modules: Mapping[str, Iterable[str]], rooms: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of `package`.

    **Arguments:**

    - `modules`: the names that each module gives.
    - `rooms`: submodules that are found as attributes, too.

    >>> find, names = lazy_names("json", {"json.decoder": ["JSONDecoder"]}, rooms=["encoder"])
    >>> find("JSONDecoder").__name__, find("encoder").__name__, names()
    ('JSONDecoder', 'json.encoder', ['JSONDecoder', 'encoder'])
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def find(name: str) -> Any:
        if name == "__all__":  # of `from package import *`
            return sorted(homes)
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        if name in rooms:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*homes, *rooms})

    return find, names
