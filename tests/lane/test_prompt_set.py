"""The prompts of a stream, which may change while it runs."""

import pytest

from daemon.lane.prompt_set import MOST, PromptSet
from stages.detection.prompts import parse_prompts
from stages.errors import ConfigError


def test_a_prompt_keeps_its_number_however_prompts_come_and_go():
    prompt_set = PromptSet(parse_prompts(["car", "Red Truck"]))
    prompt_set.ask(parse_prompts(["dog", "Red Truck"]))
    prompt_set.take_up()
    prompt_set.ask(parse_prompts(["car", "dog"]))
    prompt_set.take_up()
    assert prompt_set.written == ["car", "Red Truck", "dog"]
    assert prompt_set.numbers == (0, 2)


def test_what_was_asked_for_is_looked_for_only_once_it_is_taken_up():
    prompt_set = PromptSet(parse_prompts(["car", "truck"]))
    prompt_set.ask(parse_prompts(["truck", "dog"]))
    assert prompt_set.texts == ("truck", "dog")
    assert [prompt.written for prompt in prompt_set.prompts] == ["car", "truck"]
    assert prompt_set.take_up() == {0}
    assert [prompt.written for prompt in prompt_set.prompts] == ["truck", "dog"]


def test_only_a_prompt_that_is_looked_for_has_a_number_for_others():
    prompt_set = PromptSet(parse_prompts(["car", "truck"]))
    prompt_set.ask(parse_prompts(["truck", "dog"]))
    with pytest.raises(ConfigError, match="'dog' counts from the next keyframe on"):
        prompt_set.number("dog")
    prompt_set.ask(parse_prompts(["truck"]))
    prompt_set.take_up()
    assert prompt_set.number("truck") == 1
    with pytest.raises(ConfigError, match="no prompt 'car'; the stream looks for 'truck'"):
        prompt_set.number("car")


def test_a_stream_learns_no_more_than_its_share_of_texts_in_its_life():
    prompt_set = PromptSet(parse_prompts(["car"]))
    for number in range(MOST - 1):
        prompt_set.ask(parse_prompts([f"thing {number}"]))
        prompt_set.take_up()
    prompt_set.ask(parse_prompts(["car", "thing 7"]))
    with pytest.raises(ConfigError, match="remove it and add it again"):
        prompt_set.ask(parse_prompts(["one more"]))
    assert prompt_set.texts == ("car", "thing 7")


def test_the_prompts_of_a_stream_that_goes_on_elsewhere_keep_their_numbers():
    prompt_set = PromptSet(parse_prompts(["dog", "bus", "car"]), numbered=["car", "Red Truck", "dog"])
    assert prompt_set.written == ["car", "Red Truck", "dog", "bus"]
    assert prompt_set.numbers == (2, 3, 0)
    assert prompt_set.take_up() == {1}
