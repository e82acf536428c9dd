"""What a class of problems may and may not write."""

import jax.numpy as jnp
import pytest

import planahead as pa


class Written(pa.Problem):
    horizon: int = pa.static(3)
    state_size: int = pa.static(1)
    control_size: int = pa.static(1)

    def dynamics(self, x, u):
        return x + u


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("stage_costs", "stage_cost"),
        ("state_bound", "state_bounds"),
        ("terminal_constraint", "terminal_constraints"),
        ("control_bound", "control_bounds"),
    ],
)
def test_a_misspelled_method_is_refused_as_it_would_be_ignored(name, meant):
    message = rf"^Own writes `{name}`, which no planner calls, and has the default `{meant}`; call it `{meant}` if"
    with pytest.raises(TypeError, match=message):
        type("Own", (Written,), {name: lambda self, *of: None})


def test_a_name_like_a_method_that_is_there_is_free():
    class Own(Written):
        def stage_costs(self, x, u):
            return jnp.stack([x[0] ** 2, u[0] ** 2])

        def stage_cost(self, x, u):
            return jnp.sum(self.stage_costs(x, u))

    class Heir(Own):
        stage_costs_of: float = 1.0

        def state_cost(self, x):  # as different from stage_cost as words are
            return x[0] ** 2

    assert Heir().horizon == 3


def test_a_word_is_no_parameter():
    class Own(Written):
        target: pa.Array = pa.parameter(0.0)

    with pytest.raises(TypeError, match=r"^Own\.target is 'far'; a number or an array is expected\.$"):
        Own(target="far")  # pyright: ignore[reportArgumentType]  # the mistake
