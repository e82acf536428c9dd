"""Where model predictive control stands in a learner, and what of it is learned: the field's two questions, answered by
what there is of each.

    role            what the planner is to the policy: its teacher, its layer, a part of its world, its critic, …
    learned         what is learned: a policy beside the planner, numbers of the problem that are constant (φ) or chosen
                    from the state (φ(s)), functions inside the optimisation

Entries are written as `planahead bench --algorithms` takes them; `planahead train NAME --options SETTING=VALUE` is the
same. After R. Reiter, J. Hoffmann, D. Reinhardt, F. Messerer, K. Baumgärtner, S. Sawant, J. Boedecker, M. Diehl, S.
Gros, "Synthesis of model predictive control and reinforcement learning: survey and classification", 2025.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Place:
    """A cell of the taxonomy."""

    role: str
    learned: str
    methods: str
    entries: tuple[str, ...]


TAXONOMY = (
    Place("none", "a policy", "model-free learning", ("sac", "td3", "ac-mlp")),
    Place("expert", "a policy", "behaviour cloning, with the planner's sensitivities", ("bc", "bc-sobolev")),
    Place("expert", "a policy", "DAgger: asked where the policy itself gets to", ("dagger",)),
    Place(
        "expert",
        "a policy",
        "judged by the planner's value, or by whole plans",
        ("q-loss", "q-loss-gn", "trajectory-loss"),
    ),
    Place("expert", "a policy", "guided policy search", ("gps",)),
    Place("expert", "a policy", "imitated before learning", ("sac+imitation_steps=1000",)),
    Place("policy: the planner", "φ", "tuned by evolution", ("planner-tuned",)),
    Place("policy: the planner", "φ", "Q-learning, the planner its own critic", ("mpc-q",)),
    Place("policy: the planner", "φ", "deterministic policy gradient", ("mpc-dpg", "mpc-dpg+advantage=local")),
    Place(
        "policy: a layer",
        "φ(s)",
        "differentiated through, exploring in φ or in the action",
        ("sac-fop", "td3-fop", "sac-foa", "ac-mpc"),
    ),
    Place("policy: part of the world", "φ(s)", "zeroth order: φ is what is chosen", ("sac-zop", "td3-zop", "ppo-zop")),
    Place("critic", "φ(s)", "its predictions teach the critic", ("ac-mpc+value_expansion=1",)),
    Place(
        "safety filter",
        "a policy",
        "behind the policy, which knows of it or not",
        ("sac+filter=unaware", "sac+filter=stored", "sac+filter=penalised", "sac+filter=differentiated"),
    ),
)
"""In the order in which a pipeline meets them. What has no cell is not built."""
