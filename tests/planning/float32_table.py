"""What float32 reaches on the reference problems, beside float64: `python -m tests.planning.float32_table`.

Errors are against IPOPT: of the cost relative to it, of the controls relative to the largest one (at least 1).
"""

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import planahead as pa
from tests.planning.reference_problems import REFERENCES, Reference
from tests.planning.study import optimum, planner


def row(reference: Reference) -> list[str]:
    expected = optimum(reference, reference.state)
    cells = [reference.name]
    for wide in (False, True):
        with jax.enable_x64(wide):
            plan = pa.solve(reference.build(), jnp.asarray(reference.state, float), planner=planner(reference))
            cost = abs(float(plan.cost) - expected.cost) / abs(expected.cost)
            magnitude = max(1.0, np.abs(expected.controls).max())
            controls = np.abs(np.asarray(plan.controls, float) - expected.controls).max() / magnitude
            status = pa.Status(int(plan.status)).name
            cells += [status, f"{int(plan.iterations)}", f"{cost:.0e}", f"{controls:.0e}"]
    return cells


def main() -> None:
    table = Table("problem", title="default planner against IPOPT")
    for precision in ("float32", "float64"):
        for column in ("status", "iterations", "cost error", "control error"):
            table.add_column(f"{precision} {column}", justify="right")
    for reference in REFERENCES:
        table.add_row(*row(reference))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
