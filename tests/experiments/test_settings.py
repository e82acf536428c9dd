"""Settings survive their file unchanged, and nothing that is not a setting passes for one."""

import json

import pytest

from planahead.experiments.errors import UserError
from planahead.experiments.settings import TrainSettings, settings_from_json, settings_to_json

SETTINGS = TrainSettings(
    "sac-zop", "cartpole", steps=3000, seed=7, start_spread=0.25, options=("batch_size=64", "warm_start=true")
)


def test_round_trip_through_text():
    text = json.dumps(settings_to_json(SETTINGS))
    assert settings_from_json(TrainSettings, json.loads(text), "the configuration") == SETTINGS


def test_missing_optional_key_is_its_default():
    assert settings_from_json(TrainSettings, {"algorithm": "sac", "task": "cartpole"}, "x") == TrainSettings(
        "sac", "cartpole"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 5}, "the file has unknown keys «step»; the known ones are «algorithm», «task», «steps», «seed»"),
        ({"steps": 1.5}, "the file: «steps» is 1.5; a whole number was expected"),
        ({"steps": True}, "the file: «steps» is True; a whole number was expected"),
        ({"options": "batch_size=64"}, "the file: «options» is 'batch_size=64'; a list of texts was expected"),
        ({"start_spread": "wide"}, "«start_spread» is 'wide'; a number was expected"),
        ({"steps": 0}, "steps is 0; at least 1 was expected"),
        ({"seed": -1}, "seed is -1; a whole number from 0 to 4294967295 was expected"),
        ({"start_spread": -0.1}, "start_spread is -0.1; at least 0 was expected"),
        (
            {"options": ["batch_size"]},
            "--options got «batch_size»; name=value was expected, e.g. --options batch_size=256",
        ),
        ({"options": ["a=1", "a=2"]}, "--options got «a» twice (1 and '2'); keep one"),
    ],
)
def test_what_is_wrong_is_said(change: dict, message: str):
    with pytest.raises(UserError) as error:
        settings_from_json(TrainSettings, {**settings_to_json(SETTINGS), **change}, "the file")
    assert message in str(error.value)


def test_missing_key_is_named():
    with pytest.raises(UserError, match="the file lacks «task»; restore the file"):
        settings_from_json(TrainSettings, {"algorithm": "sac"}, "the file")


def test_option_values_are_numbers_where_they_can_be():
    options = ("a=3", "b=3e-4", "c=false", "d=relu", "e=[1]")
    assert TrainSettings("sac", "cartpole", options=options).learner_options() == {
        "a": 3, "b": 3e-4, "c": False, "d": "relu", "e": "[1]",
    }  # fmt: skip
