"""The live page: a plant in real time with the horizon that is planned ahead of it, and sliders that act at once."""

from planahead.viewer.choices import Span as Span
from planahead.viewer.page import record_page as record_page, view as view
from planahead.viewer.scene import Camera as Camera, Scene as Scene, scene_of as scene_of
from planahead.viewer.session import Frame as Frame, Poke as Poke, Session as Session
