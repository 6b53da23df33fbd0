"""The prompts of a stream, which may change while it runs."""

import pytest

from daemon.engine.prompt_set import MOST, Vocabulary
from stages.detection.prompts import parse_prompts
from stages.errors import ConfigError


def test_a_prompt_keeps_its_number_however_prompts_come_and_go():
    vocabulary = Vocabulary(parse_prompts(["car", "Red Truck"]))
    vocabulary.ask(parse_prompts(["dog", "Red Truck"]))
    vocabulary.take_up()
    vocabulary.ask(parse_prompts(["car", "dog"]))
    vocabulary.take_up()
    assert vocabulary.written == ["car", "Red Truck", "dog"]
    assert vocabulary.numbers == (0, 2)


def test_what_was_asked_for_is_looked_for_only_once_it_is_taken_up():
    vocabulary = Vocabulary(parse_prompts(["car", "truck"]))
    vocabulary.ask(parse_prompts(["truck", "dog"]))
    assert vocabulary.texts == ("truck", "dog")
    assert [prompt.written for prompt in vocabulary.prompts] == ["car", "truck"]
    assert vocabulary.take_up() == {0}
    assert [prompt.written for prompt in vocabulary.prompts] == ["truck", "dog"]


def test_only_a_prompt_that_is_looked_for_has_a_number_for_others():
    vocabulary = Vocabulary(parse_prompts(["car", "truck"]))
    vocabulary.ask(parse_prompts(["truck", "dog"]))
    with pytest.raises(ConfigError, match="'dog' counts from the next keyframe on"):
        vocabulary.number("dog")
    vocabulary.ask(parse_prompts(["truck"]))
    vocabulary.take_up()
    assert vocabulary.number("truck") == 1
    with pytest.raises(ConfigError, match="no prompt 'car'; the stream looks for 'truck'"):
        vocabulary.number("car")


def test_a_stream_learns_no_more_than_its_share_of_texts_in_its_life():
    vocabulary = Vocabulary(parse_prompts(["car"]))
    for number in range(MOST - 1):
        vocabulary.ask(parse_prompts([f"thing {number}"]))
        vocabulary.take_up()
    vocabulary.ask(parse_prompts(["car", "thing 7"]))
    with pytest.raises(ConfigError, match="remove it and add it again"):
        vocabulary.ask(parse_prompts(["one more"]))
    assert vocabulary.texts == ("car", "thing 7")
