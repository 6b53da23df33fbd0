"""Which words of a prompt the detector knows: a BERT tokenizer, with a vocabulary of its shape in small."""

import pytest
import torch
from transformers import BertTokenizer

from stages.detection.captions import NO_PROMPT
from stages.detection.grounding_dino import EMBEDDED, GroundingDino
from stages.detection.prompts import parse_prompts
from stages.detection.vocabulary import Vocabulary
from stages.errors import ConfigError

CPU = torch.device("cpu")
WORDS = ["red", "car", "cafe", "the", "a", "fork", "##lift", "-", "&", "u", "s", "flag", ".", "xx", "##xx"]
LETTERS = [
    "\u043a",
    "##\u0440",
    "##\u0443",
    "##\u0433",
    "\u661f",
]  # bert-base-uncased has Cyrillic ones, and some Chinese


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    file = tmp_path_factory.mktemp("bert") / "vocab.txt"
    file.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS]))
    return Vocabulary(BertTokenizer(vocab=str(file), do_lower_case=True), "say it in English")


@pytest.mark.parametrize("text", ["Red CAR", "caf\u00e9", "forklift", "red-car", "U.S. flag", "red & car", "x" * 50])
def test_known_words_raise_no_doubt(text, vocabulary):
    """Accents are taken off, compounds are cut into pieces."""
    [prompt] = parse_prompts([text])
    assert vocabulary.tokens(prompt)
    assert vocabulary.doubt(prompt) is None


@pytest.mark.parametrize("text", ["\u7d2b\u8272", "the \u0e15\u0e31\u0e27", "x" * 101, "zebra", "a zebra - lion"])
def test_a_prompt_without_a_known_word_is_refused_by_name(text, vocabulary):
    """Another script, one word of more than 100 letters, words beside articles and dashes."""
    [prompt] = parse_prompts([text])
    with pytest.raises(ConfigError) as refused:
        vocabulary.tokens(prompt)
    assert str(refused.value).startswith(
        f"the detector knows no word of {text[:60]!r}, so it would never find it: say it"
    )


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("red zebra", "'zebra'"),
        ("\u7d2b\u661f", "'\u7d2b\u661f'"),
        ("\u043a\u0440\u0443\u0433", "'\u043a\u0440\u0443\u0433'"),
        ("car \u661f lion", "'\u661f', 'lion'"),
    ],
)
def test_unknown_words_and_words_that_are_only_spelled_are_named(text, unknown, vocabulary):
    [prompt] = parse_prompts([text])
    assert vocabulary.tokens(prompt)
    assert vocabulary.doubt(prompt) == f"prompt {text!r}: the detector does not know {unknown}; say it in English"


def test_the_embedded_detector_says_what_it_knows():
    detector = GroundingDino(EMBEDDED, CPU, torch.float32)
    with pytest.raises(
        ConfigError, match=r"knows no word of 'forklift', .* colours and shapes only, such as 'red circle'"
    ):
        detector.passes(parse_prompts(["red circle", "forklift"]))
    [doubt] = detector.doubts(parse_prompts(["blue star", "striped square"]))
    assert "'striped'" in doubt


def test_a_full_stop_inside_a_prompt_does_not_end_its_phrase():
    """The model splits captions at full stops; the tokens of the next prompt are still the next prompt's."""
    detector = GroundingDino(EMBEDDED, CPU, torch.float32)
    [caption] = detector.captions(parse_prompts(["U.S. red star, 3.5 mm square", "blue circle"]))
    owners = [owner for owner in caption.prompt_of_token if owner != NO_PROMPT]
    assert owners == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert caption.input_ids.count(1012) == 3
