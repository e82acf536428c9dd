"""A checkpoint: one file, one line of JSON that says what it is, and behind it the numbers.

    {"format": "planahead checkpoint 1", "step": 30000, ..., "bytes": 812345, "sha256": "9f2c…", "leaves": [...]}
    leaf 0, leaf 1, …                     (equinox's serialisation of the tree's leaves: .npy after .npy, no pickle)

One file because a rename is atomic for one file only: numbers and description never disagree. The description carries a
hash of the numbers, so a truncated file is told from a whole one, and the path, type and shape of every leaf, so that a
checkpoint of another algorithm, network or precision is refused with the first difference named, before a number is
read. Nothing in it can execute code.
"""

import dataclasses
import hashlib
import io
import json
import pathlib
from typing import Any, TypeVar

import equinox as eqx
import jax

from planahead.experiments.errors import UserError, known_names
from planahead.experiments.files import plain, write_bytes

FORMAT = "planahead checkpoint 1"
Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says about itself."""

    kind: str
    """`learner` (everything needed to go on) or `policy` (everything needed to act)."""
    algorithm: str
    task: str
    step: int
    """Environment steps behind it."""
    chunk: int
    """Chunks of the learner behind it; the next chunk's random key follows from it."""
    seconds: float
    """Wall time of training behind it, over all sittings, s."""
    success_rate: float | None = None
    """Of the validation at this step."""
    mean_return: float | None = None


_HEADER = ("format", *(field.name for field in dataclasses.fields(CheckpointInfo)), "bytes", "sha256", "leaves")
_RESTORE = (
    "Restore the file from a copy, or start a new run; the other checkpoint of the run is not affected and can be "
    "evaluated."
)


def save_checkpoint(path: pathlib.Path, tree: Any, info: CheckpointInfo) -> None:
    """Write `tree`, atomically, over whatever is at `path`."""
    stream = io.BytesIO()
    eqx.tree_serialise_leaves(stream, tree)
    numbers = stream.getvalue()
    header = {
        "format": FORMAT,
        **dataclasses.asdict(info),
        "bytes": len(numbers),
        "sha256": hashlib.sha256(numbers).hexdigest(),
        "leaves": _leaves(tree),
    }
    write_bytes(path, json.dumps(plain(header), allow_nan=False).encode() + b"\n" + numbers)


def read_checkpoint_info(path: pathlib.Path) -> CheckpointInfo:
    """What the checkpoint at `path` says about itself; its numbers are not read."""
    header, _ = _open(path)
    return _info(header)


def load_checkpoint(path: pathlib.Path, template: Tree, info: CheckpointInfo) -> tuple[Tree, CheckpointInfo]:
    """The tree at `path` in the shape of `template`; refused unless kind, algorithm and task are those of `info`."""
    header, numbers = _open(path)
    found = _info(header)
    for name in ("kind", "algorithm", "task"):
        if getattr(found, name) != getattr(info, name):
            raise UserError(
                f"checkpoint «{path}» is of another run: its {name} is «{getattr(found, name)}», "
                f"«{getattr(info, name)}» was expected. Put the right file back, or start a new run."
            )
    if len(numbers) != header["bytes"] or hashlib.sha256(numbers).hexdigest() != header["sha256"]:
        raise UserError(
            f"checkpoint «{path}» is damaged: {len(numbers)} bytes of numbers came, {header['bytes']} with "
            f"SHA-256 {header['sha256'][:12]}… were written. {_RESTORE}"
        )
    here, there = _leaves(template), header["leaves"]
    if here != there:
        raise UserError(
            f"checkpoint «{path}» does not fit this learner: {_first_difference(here, there)}. Use the settings, the "
            "precision (JAX_ENABLE_X64) and the version of planahead that wrote it; config.json and versions.json of "
            "its run name them."
        )
    return eqx.tree_deserialise_leaves(io.BytesIO(numbers), template), found


def _open(path: pathlib.Path) -> tuple[dict[str, Any], bytes]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read checkpoint «{path}»: {error.strerror or error}.") from error
    line, end, numbers = content.partition(b"\n")
    start = b'{"format": "' + FORMAT.encode()
    if not end and line and (line.startswith(start) or start.startswith(line)):
        raise UserError(
            f"checkpoint «{path}» is truncated: it ends after {len(content)} bytes, within its first line. {_RESTORE}"
        )
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(
            f"«{path}» is not a checkpoint of planahead: it begins with {line[:40]!r}, a line of JSON with the format "
            f"«{FORMAT}» was expected."
        )
    missing = [name for name in _HEADER if name not in header]
    if missing:
        raise UserError(f"checkpoint «{path}» is damaged: its first line lacks {known_names(missing)}. {_RESTORE}")
    return header, numbers


def _info(header: dict[str, Any]) -> CheckpointInfo:
    return CheckpointInfo(**{field.name: header[field.name] for field in dataclasses.fields(CheckpointInfo)})


def _leaves(tree: Any) -> list[str]:
    """Path, type and shape of every leaf that is written; the order is the order in the file."""
    described = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct):
            described.append(f"{jax.tree_util.keystr(path)}: {leaf.dtype}{list(leaf.shape)}")
        elif isinstance(leaf, bool | int | float | complex):
            described.append(f"{jax.tree_util.keystr(path)}: {type(leaf).__name__}")
    return described


def _first_difference(here: list[str], there: list[str]) -> str:
    for expected, found in zip(here, there, strict=False):
        if expected != found:
            return f"the file holds «{found}» where «{expected}» was expected"
    return f"the file holds {len(there)} leaves where {len(here)} were expected"
