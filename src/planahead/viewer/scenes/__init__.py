"""Scenes of the package's tasks, one file a family; importing them registers them with `scene_of`."""

from planahead.viewer.scenes import (
    cart_pole as cart_pole,
    chain as chain,
    linear_system as linear_system,
    mass_spring_damper as mass_spring_damper,
    obstacles as obstacles,
    quadrotor as quadrotor,
    wind_maze as wind_maze,
)
