"""A program: plans in the workers of a `DataLoader`, forked or spawned after JAX has run, as its argument says."""

import sys
import warnings

import torch

import planahead as pa
from planahead.interop.torch import PlanLayer


class Costs(torch.utils.data.Dataset[float]):
    """V of a few states, each solved where it is asked for."""

    def __init__(self) -> None:
        self.layer = PlanLayer(pa.make_task("mass-spring-damper").problem)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> float:
        return float(self.layer(torch.tensor([[0.1 * (index + 1), 0.0]])).cost)


def main(method: str) -> None:
    data = Costs()
    here = [data[index] for index in range(len(data))]
    if method == "fork":
        warnings.simplefilter("ignore")  # JAX and Python warn of what is about to happen
    loader = torch.utils.data.DataLoader(data, num_workers=1, multiprocessing_context=method, timeout=120)
    there = [float(batch) for batch in loader]
    print("the same" if here == there else f"{here} became {there}")


if __name__ == "__main__":
    main(sys.argv[1])
