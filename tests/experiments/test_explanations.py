"""Every task and algorithm can be explained with all that may be set of it."""

import re

import pytest

from planahead.experiments.command import main
from planahead.experiments.errors import UserError
from planahead.experiments.explanations import explain
from planahead.learning import algorithm_names
from planahead.learning.settings import settings_of
from planahead.tasks import make_task, task_names


@pytest.mark.parametrize("name", algorithm_names())
def test_every_setting_of_an_algorithm_has_a_meaning(name):
    options = {option.name: option for option in explain(name).options}
    assert set(options) == set(settings_of(name))
    silent = [option.name for option in options.values() if not option.meaning]
    assert not silent, "a string below the field says what it is"


@pytest.mark.parametrize("name", task_names())
def test_options_of_a_task_are_those_that_it_takes(name):
    explanation = explain(name)
    assert "Observation:" in explanation.text and "Reward:" in explanation.text
    constants = make_task(name).environment.constants
    arguments = [option for option in explanation.options if option.name not in constants]
    assert all(option.meaning for option in arguments)
    assert make_task(name, **{option.name: _plain(option.default) for option in arguments}).name == name
    assert {"start_spread", *constants} <= {option.name for option in explanation.options}


def _plain(text: str) -> object:
    if re.fullmatch(r"\d+\.\d+", text):
        return float(text)
    return {"true": True, "false": False}.get(text, int(text) if text.isdigit() else text)


def test_units_come_from_the_comments_behind_the_fields():
    meanings = {option.name: option for option in explain("cartpole").options}
    assert meanings["pole_mass"].default == "0.1" and meanings["pole_mass"].meaning == "kg"


def test_another_name_is_an_error_that_lists_the_known_ones():
    with pytest.raises(UserError, match="there is no «nosuch»; the known names are «cartpole»"):
        explain("nosuch")


def test_the_command_shows_what_can_be_set(capsys: pytest.CaptureFixture[str]):
    assert main(["list", "sac-fop"]) == 0
    text = capsys.readouterr().out
    assert "--options NAME=VALUE" in text and "polyak" in text and "Haarnoja" in text
