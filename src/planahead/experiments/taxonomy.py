"""Where model predictive control stands in a learner, and what of it is learned: the field's two questions, answered by
what there is of each.

    role            what the planner is to the policy: its teacher, its reference, the policy itself, its layer, part of
                    its world, its neighbour, its critic, its safety filter
    architecture    "parameterized": numbers of the problem are learned, the same in every state; "hierarchical": a
                    network writes them from the observation; "integrated": a network inside the problem; "parallel": a
                    network corrects the plan; "algorithmic": a network guides the solver; "–": a network acts alone

Entries are written as `planahead bench --algorithms` takes them; `planahead train NAME --options SETTING=VALUE` is the
same. After R. Reiter, J. Hoffmann, D. Reinhardt, F. Messerer, K. Baumgärtner, S. Sawant, J. Boedecker, M. Diehl, S.
Gros, "Synthesis of model predictive control and reinforcement learning: survey and classification", 2025.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Place:
    """A cell of the taxonomy."""

    role: str
    architecture: str
    methods: str
    entries: tuple[str, ...]
    after: str = ""
    """What puts a trained policy there, where nothing is trained for it; there are no entries then."""


TAXONOMY = (
    Place("none", "–", "model-free learning", ("sac", "td3", "ac-mlp")),
    Place("expert", "–", "behaviour cloning, with the planner's sensitivities", ("bc", "bc-sobolev")),
    Place("expert", "–", "DAgger: asked where the policy itself gets to", ("dagger",)),
    Place(
        "expert",
        "–",
        "judged by the planner's value, or by whole plans",
        ("q-loss", "q-loss-gn", "trajectory-loss"),
    ),
    Place("expert", "–", "guided policy search", ("gps",)),
    Place("expert", "–", "a skip policy learns how long to trust it, in the end not at all", ("sac-skip",)),
    Place("expert", "–", "imitated before learning", ("sac+imitation_steps=1000",)),
    Place(
        "before the policy",
        "–",
        "reference generator: the planner's trajectory is what the policy observes and follows",
        (),
        after="ReferenceGenerator",
    ),
    Place("policy: the planner", "parameterized", "tuned by evolution", ("planner-tuned",)),
    Place("policy: the planner", "parameterized", "Q-learning, the planner its own critic", ("mpc-q",)),
    Place(
        "policy: the planner", "parameterized", "deterministic policy gradient", ("mpc-dpg", "mpc-dpg+advantage=local")
    ),
    Place("policy: the planner", "parameterized", "aligned: its model fitted to what happens", ("mpc-model",)),
    Place(
        "policy: the planner",
        "parameterized",
        "aligned and for the closed loop, one objective",
        ("mpc-model+closed_loop_weight=0.01",),
    ),
    Place(
        "policy: the planner",
        "integrated",
        "aligned: a network in the dynamics, a learned terminal value",
        ("mpc-model+fits=network", "mpc-model-value"),
    ),
    Place(
        "policy: a layer",
        "hierarchical",
        "differentiated through, exploring in φ or in the action",
        ("sac-fop", "td3-fop", "sac-foa", "ac-mpc"),
    ),
    Place(
        "policy: part of the world",
        "hierarchical",
        "zeroth order: φ is what is chosen",
        ("sac-zop", "td3-zop", "ppo-zop"),
    ),
    Place(
        "policy: the planner, corrected",
        "parallel",
        "a network acts beside the planner, alone or steering it as well",
        ("sac-zop+correction=0.5+steers=false", "sac-zop+correction=0.5", "ppo-zop+correction=0.5+steers=false"),
    ),
    Place(
        "policy: the planner, guided",
        "algorithmic",
        "AC4MPC: a trained actor is the guess, its value the terminal cost",
        (),
        after="AC4MPC",
    ),
    Place(
        "policy: the planner, guided",
        "algorithmic",
        "a network says where the solver starts, learned from the best of several solves",
        (),
        after="GuidedPlanner",
    ),
    Place(
        "policy: the planner, guided",
        "algorithmic",
        "a network names the active rows of its quadratic program",
        (),
        after="ActiveSetGuide",
    ),
    Place(
        "policy: the planner, guided",
        "algorithmic",
        "a network says whether to plan anew, and how far ahead, at a price for computation",
        (),
        after="AdaptivePlanner",
    ),
    Place(
        "policy: the planner, guided",
        "algorithmic",
        "CACTO: the actor is the guess, plans teach its critic, their slopes as well or not",
        ("cacto", "cacto+sobolev_weight=0.1"),
    ),
    Place("critic", "–", "its own value, as it is", ("sac-blended+blend_steps=0",)),
    Place("critic", "–", "blended with a learned one: its value, or MPQ(λ) of its steps", ("sac-blended", "sac-mpq")),
    Place("critic", "parameterized", "corrected to first order, the actor's own planner", ("mpc-dpg+advantage=local",)),
    Place("critic", "hierarchical", "its predictions teach the critic", ("ac-mpc+value_expansion=1",)),
    Place(
        "safety filter",
        "–",
        "behind the policy, which knows of it or not",
        ("sac+filter=unaware", "sac+filter=stored", "sac+filter=penalised", "sac+filter=differentiated"),
    ),
)
"""In the order in which a pipeline meets them. What has no cell is not built."""
