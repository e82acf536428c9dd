"""The tasks by name, one line each: where the class of a task lies, written as Gymnasium writes entry points."""

TASKS: dict[str, str] = {
    "cartpole": "planahead.tasks.cart_pole:CartPoleTask",
    "mass-spring-damper": "planahead.tasks.mass_spring_damper:MassSpringDamperTask",
}
