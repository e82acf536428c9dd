"""The named benchmarks of learners: their tasks with what training on them is like, their algorithms and seeds.

Everything that may differ between tasks is said here, and nowhere else.
"""

import dataclasses
from collections.abc import Sequence
from typing import get_args

from planahead.experiments.bench.definition import EXPERT, PLANNER, TUNED, Ablation, Benchmark, Conditions
from planahead.experiments.errors import UserError, known_names
from planahead.policies import Awareness
from planahead.words import did_you_mean

_FLIGHT = Conditions(
    steps=20_000_000,
    validate_every=1_000_000,
    options=("anneal_steps={steps}", "entropy_weight=0"),
    # Races of 20 s begin so rarely that a policy forgets how; and commanded rates are worth more than the task's price
    # of them lets through.
    training_options=("starts=anywhere", "episode_steps=400", "rate_price=0.001"),
)
"""Of racing, whose steps are simulated by the hundred side by side."""

_JUDGING = Conditions(
    steps=12_000,
    validate_every=800,
    # Of both, the discount that the planner has; the rest is as small as the task.
    options=("discount=0.95", "batch_size=64", "hidden_units=64", "warm_up_steps=800", "steps_per_chunk=800"),
)
"""Of critics with a planner in them: two plans a row and gradient step."""

_SMALL = "+batch_size=64"
"""As published: a quarter of the rows of our own batches, which is what derivatives of plans can afford."""

_PRIOR_TASKS = {
    "cartpole": Conditions(),  # which always starts hanging, and is judged from perturbed starts
    # From the usual start no exploration meets the goal, and even from the whole course, as published, only from beyond
    # the second zone: of 20,000 uniformly random episodes 8 % do, and none passes either gap.
    "windmaze-hard": Conditions(training_options=("starts=anywhere",)),
    "chain": Conditions(),
}


_TUNED_PRIOR = {
    "cartpole": (
        f"sac{_SMALL}+learning_rate=0.003",
        f"sac-zop{_SMALL}+learning_rate=0.003",
        f"sac-fop{_SMALL}+learning_rate=0.003",
        f"sac-foa{_SMALL}",
        f"td3{_SMALL}+exploration_noise=1",
    ),
    "windmaze-hard": (
        f"sac{_SMALL}",
        f"sac-zop{_SMALL}+learning_rate=0.003",
        f"sac-fop{_SMALL}+learning_rate=0.0003",
        f"sac-foa{_SMALL}+learning_rate=0.0003",
        f"td3{_SMALL}+exploration_noise=0.5+learning_rate=0.0003",
    ),
    "chain": (
        f"sac{_SMALL}",
        f"sac-zop{_SMALL}+learning_rate=0.01",
        f"sac-fop{_SMALL}+learning_rate=0.003",
        f"sac-foa{_SMALL}+learning_rate=0.003",
        f"td3{_SMALL}+exploration_noise=0.5",
    ),
}
"""Learning rates (and the noise of TD3) that `benchmarks/mpc-prior/tuning` found; 1e-3, everyone's own, is not
written."""

_ASKING = Conditions(steps=8_000, validate_every=400)
"""Of imitation, in which a step is a query."""
_GUIDED = Conditions(steps=60_000, validate_every=2_000, options=("batch_size=64", "hidden_units=64"))
"""Of exploration with an expert, who plans once a step of 16 environments while it is trusted, 10,000 steps."""
_LIMITED = "race-split-s+limits_speed={}+speed_limit=12"
"""Half as fast as the limit of time-optimal laps."""
_ABLATIONS = (
    Ablation("horizon", {
        "2": ("race-split-s", "ac-mpc"),
        "5": ("race-split-s+horizon=5", "ac-mpc"),
        "10": ("race-split-s+horizon=10", "ac-mpc"),
    }),
    Ablation("cost", {
        "diagonal": ("race-split-s", "ac-mpc"),
        "cholesky": ("race-split-s+cost=cholesky", "ac-mpc"),
        "full": ("race-split-s+cost=full", "ac-mpc"),
    }),
    Ablation("scale of weights", {
        "logarithmic": ("race-split-s", "ac-mpc"),
        "linear": ("race-split-s", "ac-mpc+parameter_scale=linear"),
    }),
    Ablation("model", {
        "10 states, rates": ("race-split-s", "ac-mpc"),
        "10 states, rates observed": ("race-split-s+observes_rates=true", "ac-mpc"),
        "13 states, rotors": ("race-split-s+model=rotors", "ac-mpc"),
    }),
    Ablation("value expansion", {
        "off": ("race-split-s", "ac-mpc"),
        "on": ("race-split-s", "ac-mpc+value_expansion=1"),
    }),
    Ablation("noise", {
        "at the action": ("race-split-s", "ac-mpc"),
        "at the parameters": ("race-split-s", "ppo-zop"),
    }),
    Ablation("speed limit", {
        "in the reward": (_LIMITED.format("false"), "ac-mpc"),
        "in the reward and the plan": (_LIMITED.format("true"), "ac-mpc"),
    }),
)  # fmt: skip

_RIGHT_COST = "mass-spring-damper+discount=0.95+matched=true"
_WRONG_SPRING = f"{_RIGHT_COST}+stiffness_factor=5"
_ALIGNED = (
    # A right model is all that is missing, and actions tell it apart.
    Ablation("a spring that is believed to be five times as stiff", {
        "believed": (_WRONG_SPRING, PLANNER),
        "known": (_RIGHT_COST, PLANNER),
        "model": (_WRONG_SPRING, "mpc-model"),
        "network": (_WRONG_SPRING, "mpc-model+fits=network"),
        "model and value": (_WRONG_SPRING, "mpc-model-value"),
        "Q-learning": (_WRONG_SPRING, "mpc-q"),
        "policy gradient": (_WRONG_SPRING, "mpc-dpg"),
        "evolution": (_WRONG_SPRING, TUNED),
    }),
    Ablation("a wrong body and wrong weights", {
        "believed": ("mass-spring-damper", PLANNER),
        "known": ("mass-spring-damper+matched=true", PLANNER),
        "model": ("mass-spring-damper", "mpc-model"),
        "network": ("mass-spring-damper", "mpc-model+fits=network"),
        "Q-learning": ("mass-spring-damper", "mpc-q+discount=0.95"),
        "policy gradient": ("mass-spring-damper", "mpc-dpg+discount=0.95"),
        "evolution": ("mass-spring-damper", TUNED),
    }),
    # No model of the mean keeps out of the box's walls; under feedback, noise biases predictions over several steps.
    Ablation("a wrong model and a disturbance", {
        "believed": ("linear", PLANNER),
        "known": ("linear+matched=true", PLANNER),
        "model, one step": ("linear", "mpc-model+prediction_steps=1"),
        "model, five steps": ("linear", "mpc-model"),
        "model and value": ("linear", "mpc-model-value+prediction_steps=1"),
        "model and closed loop": ("linear", "mpc-model+closed_loop_weight=0.01+prediction_steps=1"),
        "Q-learning": ("linear", "mpc-q"),
        "policy gradient": ("linear", "mpc-dpg"),
        "evolution": ("linear", TUNED),
    }),
)  # fmt: skip

BENCHMARKS: dict[str, Benchmark] = {
    "swing-up": Benchmark(
        summary="the cart-pole with a horizon of 0.25 s",
        tasks={"cartpole": Conditions()},
        algorithms=("sac-zop", "sac-fop", "sac-foa", "sac"),
        seeds=(0, 1, 2),
    ),
    "mpc-prior": Benchmark(
        summary="is a planner worth having for a learner? Cart-pole, hard wind maze and chain",
        tasks=_PRIOR_TASKS,
        algorithms=(
            PLANNER,
            TUNED,
            "sac",
            "sac-zop",
            "td3+exploration_noise=0.5",
            *(f"{algorithm}{_SMALL}" for algorithm in ("sac", "sac-zop", "sac-fop", "sac-foa")),
        ),
        seeds=(0, 1, 2, 3, 4),
    ),
    "mpc-prior-tuned": Benchmark(
        summary="is a planner worth having for a learner? Each with the learning rate that tuning found for the task",
        tasks=_PRIOR_TASKS,
        algorithms={task: (PLANNER, TUNED, *learners) for task, learners in _TUNED_PRIOR.items()},
        seeds=(0, 1, 2, 3, 4),
    ),
    "expert": Benchmark(
        summary="a network learns from a planner: success against questions asked, on cart-pole and wind maze",
        tasks={
            # By itself it always starts from the same state, and a single episode is all that cloning would see.
            "cartpole": dataclasses.replace(_ASKING, training_options=("start_spread=0.1",)),
            "windmaze-easy": _ASKING,
            "windmaze-hard": _ASKING,
        },
        algorithms=("dagger", "bc", "bc-sobolev", "q-loss-gn", EXPERT),
        seeds=(0, 1, 2),
    ),
    "mpc-rl": Benchmark(
        summary="a planner with a wrong model that learns its own parameters: Q-learning, policy gradients, evolution",
        tasks={"linear": Conditions(steps=60_000, validation_episodes=50)},
        algorithms=(
            "mpc-q",
            "mpc-q+hessian=none+learning_rate=0.01",
            "mpc-dpg",
            "mpc-dpg+advantage=local",
            TUNED,
            PLANNER,
        ),
        seeds=(0, 1, 2),
    ),
    "aligned": Benchmark(
        summary="parts of a planner fitted to what happens, or trained for the return, or both: models and values",
        tasks={
            "mass-spring-damper": Conditions(steps=8_000, validation_episodes=50),
            "linear": Conditions(steps=20_000, validation_episodes=50),
        },
        algorithms=("mpc-model", "mpc-model-value", "mpc-q", "mpc-dpg", TUNED, PLANNER),
        seeds=(0, 1, 2),
        ablations=_ALIGNED,
    ),
    "mpc-critic": Benchmark(
        summary="a planner in the critic of SAC, with a right and with a wrong model: how long to believe it",
        tasks={
            "mass-spring-damper+discount=0.95+matched=true": _JUDGING,
            "mass-spring-damper+discount=0.95+matched=true+stiffness_factor=5": _JUDGING,
        },
        algorithms=(
            "sac",
            "sac-blended+blend=0.5+blend_steps=0",
            "sac-blended",
            "sac-blended+blend_steps=0",
            "sac-mpq+blend=0.5+blend_steps=0",
            "sac-mpq",
            PLANNER,
        ),
        seeds=(0, 1, 2),
    ),
    "filter-awareness": Benchmark(
        summary="a safety filter behind a learning policy, and what it helps that learning knows of it",
        tasks={"obstacles": Conditions(steps=20_000, options=("batch_size=64", "hidden_units=64"))},
        algorithms=("sac", *(f"sac+filter={awareness}" for awareness in get_args(Awareness))),
        seeds=(0, 1, 2),
    ),
    "skip": Benchmark(
        summary="an expert that a skip policy trusts for a while, and is left alone by in the end, beside SAC without",
        tasks={"cartpole": _GUIDED, "windmaze-hard": _GUIDED},
        algorithms=("sac-skip", "sac", EXPERT),
        seeds=(0, 1, 2),
    ),
    "racing": Benchmark(
        summary="a quadrotor through the gates of Split-S, with a planner in its policy and without",
        tasks={"race-split-s": _FLIGHT, "race-split-s+plant=realistic": _FLIGHT},
        algorithms=("ac-mlp", "ac-mpc"),
        seeds=(0, 1, 2),
        interfaces=("stage",),
    ),
    "ablations": Benchmark(
        summary="what each choice of AC-MPC is worth, on Split-S with 3 million steps",
        tasks={"race-split-s": dataclasses.replace(_FLIGHT, steps=3_000_000, validate_every=250_000)},
        algorithms=("ac-mpc",),
        seeds=(0, 1, 2),
        interfaces=("stage",),
        ablations=_ABLATIONS,
    ),
}


def known_benchmark(name: str, others: Sequence[str] = ()) -> Benchmark:
    """The benchmark called `name`; `others` are benchmarks that train nothing."""
    if name not in BENCHMARKS:
        known = (*BENCHMARKS, *others)
        raise UserError(f"there is no benchmark «{name}»{did_you_mean(name, known)}; known are {known_names(known)}.")
    return BENCHMARKS[name]
