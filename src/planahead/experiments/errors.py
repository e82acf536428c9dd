"""Errors that a user causes and a user can mend."""


class UserError(Exception):
    """Something at the user's edge is wrong: a name, a file, a folder, an option.

    The message says what came, what was expected and what to do. The command line prints it without a traceback and
    ends with exit code 2; everything else that is raised is a programming error and keeps its traceback.
    """


def known_names(names: list[str] | tuple[str, ...]) -> str:
    """Names as they read in a message.

    >>> known_names(["cartpole", "mass-spring-damper"])
    '«cartpole», «mass-spring-damper»'
    """
    return ", ".join(f"«{name}»" for name in names) if names else "none"


def at_least(option: str, value: int, least: int) -> None:
    """Refuse a number that is too small."""
    if not value >= least:
        raise UserError(f"{option} is {value}; at least {least} was expected.")
