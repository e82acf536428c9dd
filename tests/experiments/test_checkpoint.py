"""A checkpoint comes back bit for bit, or not at all and with a reason."""

import json
import pathlib
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from planahead.experiments.checkpoint import CheckpointInfo, load_checkpoint, read_checkpoint_info, save_checkpoint
from planahead.experiments.errors import UserError

INFO = CheckpointInfo(kind="learner", algorithm="stub", task="point", step=300, chunk=3, seconds=1.5, success_rate=0.5)


class State(eqx.Module):
    weight: Array
    count: Array
    flag: Array
    key: Array
    name: str = eqx.field(static=True, default="state")


def state(size: int = 3) -> State:
    return State(
        jnp.linspace(0, 1, size) / 3, jnp.array(7), jnp.array([True, False]), jax.random.key_data(jax.random.key(3))
    )


def test_every_bit_comes_back(tmp_path: pathlib.Path):
    save_checkpoint(tmp_path / "last", state(), INFO)
    blank = jax.tree.map(jnp.zeros_like, state())
    for template in (blank, eqx.filter_eval_shape(state)):
        loaded, info = load_checkpoint(tmp_path / "last", template, INFO)
        assert info == INFO
        for found, written in zip(jax.tree.leaves(loaded), jax.tree.leaves(state()), strict=True):
            assert found.dtype == written.dtype
            np.testing.assert_array_equal(found, written)
    assert read_checkpoint_info(tmp_path / "last") == INFO


def refused(path: pathlib.Path, template: State | None = None, info: CheckpointInfo = INFO) -> str:
    with pytest.raises(UserError) as error:
        load_checkpoint(path, state() if template is None else template, info)
    return str(error.value)


def test_truncated_file(tmp_path: pathlib.Path):
    path = tmp_path / "last"
    save_checkpoint(path, state(), INFO)
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    assert "is damaged" in refused(path) and "Restore the file from a copy, or start a new run" in refused(path)
    for length in (1, 20, 300):
        path.write_bytes(content[:length])
        assert f"is truncated: it ends after {length} bytes, within its first line. Restore the file" in refused(path)
    path.write_bytes(b"")
    assert "is not a checkpoint of planahead: it begins with b''" in refused(path)


@pytest.mark.parametrize("key", ["step", "seconds", "sha256", "leaves"])
def test_a_first_line_that_lacks_a_key(tmp_path: pathlib.Path, key: str):
    path = tmp_path / "last"
    save_checkpoint(path, state(), INFO)
    line, _, numbers = path.read_bytes().partition(b"\n")
    header = {name: value for name, value in json.loads(line).items() if name != key}
    path.write_bytes(json.dumps(header).encode() + b"\n" + numbers)
    assert f"is damaged: its first line lacks «{key}». Restore the file from a copy" in refused(path)


def test_one_flipped_bit(tmp_path: pathlib.Path):
    path = tmp_path / "last"
    save_checkpoint(path, state(), INFO)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "is damaged" in refused(path)


def test_file_of_another_program_is_never_run(tmp_path: pathlib.Path):
    path = tmp_path / "last"
    path.write_bytes(pickle.dumps({"weight": 1}))
    assert "is not a checkpoint of planahead" in refused(path)


def test_missing_file(tmp_path: pathlib.Path):
    assert "cannot read checkpoint" in refused(tmp_path / "last")


def test_checkpoint_of_another_run(tmp_path: pathlib.Path):
    path = tmp_path / "last"
    save_checkpoint(path, state(), INFO)
    other = CheckpointInfo("learner", "sac", "point", 0, 0, 0.0)
    assert "is of another run: its algorithm is «stub», «sac» was expected" in refused(path, info=other)


def test_checkpoint_of_another_network(tmp_path: pathlib.Path):
    path = tmp_path / "last"
    save_checkpoint(path, state(4), INFO)
    assert "the file holds «.weight: float32[4]» where «.weight: float32[3]» was expected" in refused(path)


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "last"
    save_checkpoint(path, state(), INFO)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        save_checkpoint(path, state(), INFO)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last"]
