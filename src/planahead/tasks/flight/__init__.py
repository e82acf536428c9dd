"""Quadrotors: how they fly, where they race, and the planners that fly them."""
