"""Bridges to other libraries. What needs one of them is imported from its own module, not here."""

from planahead.interop.registration import register_gymnasium as register_gymnasium
