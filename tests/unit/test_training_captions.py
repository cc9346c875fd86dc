"""How the tiny world is put into words."""

import re

import numpy as np
import pytest
import torch
from diffusers import LTX2ConditionPipeline

from training import captions, components, text, words, world

_COUNT = 900


@pytest.fixture(scope="module")
def attributes() -> world.Ints:
    """Rows of every set."""
    random = np.random.default_rng(11)
    return np.concatenate([world.draw_attributes(random, _COUNT // 3, subset) for subset in range(3)])


def _tokens(caption: str) -> list[str]:
    return captions.tokenizer().tokenize(caption)


def _build(caption: str, row: world.Ints) -> str:
    """The caption with slots for its colours."""
    colour, background = world.COLOURS[row[1]], world.COLOURS[row[2]]
    return " ".join({colour: "{c}", background: "{b}"}.get(word, word) for word in _tokens(caption))


def test_the_plain_caption_names_everything() -> None:
    """Its words are the names of the attributes, in a sentence."""
    assert captions.plain(np.array([0, 0, 2, 0])) == "a red circle moving left on a blue background"
    assert captions.plain(np.array([1, 3, 5, 4])) == "a yellow square staying still on a black background"
    assert captions.plain(np.array([2, 6, 4, 5])) == "a purple triangle growing on a white background"
    assert captions.plain(np.array([2, 6, 4, 6])) == "a purple triangle bouncing on a white background"


def test_every_word_of_a_caption_is_known(attributes: world.Ints) -> None:
    """Nothing but the word that stands for unknown ones is unknown."""
    random = np.random.default_rng(1)
    known = set(captions.vocabulary())
    for row in attributes:
        for caption in (captions.plain(row), captions.varied(row, random), captions.partial(row, random)):
            without = caption.replace(words.UNKNOWN, "")
            assert set(_tokens(without)) <= known - {"<unk>"}
        for subset in (1, 2):
            assert set(_tokens(captions.paraphrase(row, random, subset))) <= known - {"<unk>"}


def test_no_caption_is_cut_off(attributes: world.Ints) -> None:
    """With the two tokens that begin and end it, a caption has room."""
    random = np.random.default_rng(2)
    written = [write(row, random) for row in attributes for write in (captions.varied, captions.partial)]
    written += [captions.paraphrase(row, random, subset) for row in attributes for subset in (1, 2)]
    lengths = [len(ids) for ids in captions.tokenizer()(written).input_ids]
    assert max(lengths) <= components.SEQUENCE_LENGTH


def test_captions_say_both_colours_once_and_no_other(attributes: world.Ints) -> None:
    """Fillers never name a colour."""
    random = np.random.default_rng(3)
    for row in attributes:
        for caption in (captions.varied(row, random), captions.paraphrase(row, random, 2)):
            named = [word for word in _tokens(caption) if word in world.COLOURS]
            assert sorted(named) == sorted([world.COLOURS[row[1]], world.COLOURS[row[2]]])


def test_a_partial_caption_names_no_colour_it_leaves_out(attributes: world.Ints) -> None:
    """What is not said cannot be read from the caption."""
    random = np.random.default_rng(4)
    for row in attributes:
        said = captions.draw_said(random)
        named = [word for word in _tokens(captions.partial(row, random, said)) if word in world.COLOURS]
        expected = [world.COLOURS[row[place]] for place in (1, 2) if said[place]]
        assert sorted(named) == sorted(expected)


def test_a_caption_that_says_nothing_is_the_same_for_all(attributes: world.Ints) -> None:
    """It depends on the randomness alone."""
    written = {captions.partial(row, np.random.default_rng(5), captions.NOTHING) for row in attributes[:50]}
    assert len(written) == 1


def test_paraphrases_are_built_as_no_training_caption_is(attributes: world.Ints) -> None:
    """No build of a sentence is seen in both."""
    random = np.random.default_rng(6)
    trained = {_build(captions.varied(row, random), row) for _ in range(3) for row in attributes}
    tested = {_build(captions.paraphrase(row, random, subset), row) for row in attributes for subset in (1, 2)}
    assert not trained & tested
    assert not set(captions.PARAPHRASES[0]) & set(captions.PARAPHRASES[1])


def test_training_captions_hardly_repeat(attributes: world.Ints) -> None:
    """Nearly every draw is worded anew."""
    random = np.random.default_rng(7)
    builds = [_build(captions.varied(row, random), row) for row in attributes]
    assert len(set(builds)) > 0.95 * len(builds)


def test_captions_follow_the_randomness_given(attributes: world.Ints) -> None:
    """The same seed writes the same captions."""
    for write in (captions.varied, captions.partial):
        first, second = ([write(row, np.random.default_rng(8)) for row in attributes[:20]] for _ in range(2))
        assert first == second


def test_no_phrase_belongs_to_two_motions() -> None:
    """Nor does a noun belong to two shapes."""
    phrases = [{phrase for pair in group for phrase in pair} for group in words.OTHERWISE]
    for groups in (phrases, [set(way) for way in words.WAYS], [set(nouns) for nouns in words.SHAPE_WORDS]):
        assert sum(map(len, groups)) == len(set().union(*groups))


def test_words_that_mean_nothing_mean_nothing() -> None:
    """None of them is said of a shape, a colour or a motion by itself."""
    telling = {*world.COLOURS, *(noun for nouns in words.SHAPE_WORDS for noun in nouns), *words.STATES}
    telling |= {"left", "right", "up", "down"}
    telling |= {phrase for group in (words.VERBS, *words.OTHERWISE) for pair in group for phrase in pair}
    assert not telling & set(words.MEANINGLESS)


def test_the_vocabulary_begins_with_the_special_tokens_and_is_deterministic() -> None:
    """Padding is 0, the end 1, the beginning 2, the unknown 3; no word is there twice."""
    vocabulary = captions.vocabulary()
    assert vocabulary[:4] == ["<pad>", "<eos>", "<bos>", "<unk>"]
    assert vocabulary == captions.vocabulary()
    assert len(set(vocabulary)) == len(vocabulary) == len(captions.tokenizer())
    assert all(re.fullmatch(r"[a-z0-9]+|[^\w\s]", word) for word in vocabulary[4:])


def test_the_tokenizer_pads_on_the_left_and_ignores_case() -> None:
    """Every prompt begins and ends with its token, whatever its length; marks stand for themselves."""
    tokenizer = captions.tokenizer()
    kept = tokenizer("A RED Circle, moving left!", padding="max_length", max_length=48, truncation=True)
    assert kept.input_ids[-1] == 1
    assert kept.input_ids[: 48 - 8 - 1] == [0] * (48 - 8 - 1)
    assert tokenizer.decode(kept.input_ids, skip_special_tokens=True) == "a red circle , moving left !"
    assert kept.attention_mask == [0] * 39 + [1] * 9
    assert tokenizer("qwertz ,").input_ids == [2, 3, captions.vocabulary().index(","), 1]


def test_prompts_are_embedded_as_the_pipeline_embeds_them() -> None:
    """Not one bit differs, for short, empty and overlong prompts."""
    torch.manual_seed(0)
    tokenizer = captions.tokenizer()
    text_encoder, connectors = components.text_encoder(len(tokenizer)).eval(), components.connectors().eval()
    parts = dict.fromkeys(("scheduler", "vae", "audio_vae", "transformer", "vocoder"))
    pipeline = LTX2ConditionPipeline(text_encoder=text_encoder, tokenizer=tokenizer, connectors=connectors, **parts)
    prompts = [" A red circle moving left on a blue background ", "", "box " * 100]
    with torch.inference_mode():
        states, mask, _, _ = pipeline.encode_prompt(
            prompts, do_classifier_free_guidance=False, max_sequence_length=48, device="cpu"
        )
        expected = pipeline.connectors(states, mask, padding_side=pipeline.tokenizer_padding_side)
        given = text.embed(text_encoder, connectors, tokenizer, prompts)
    assert [tuple(output.shape) for output in given] == [(3, 48, 96), (3, 48, 96), (3, 48)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(given, expected, strict=True))


def test_a_batch_knows_what_its_captions_say() -> None:
    """What is left out has the class after all; combinations held out are never written about."""
    written, truth = text.batch(np.random.default_rng(9), 500)
    assert len(written) == len(truth) == 500
    unsaid = truth.numpy() == np.array([3, 7, 7, 7])
    assert 0 < unsaid.any(1).mean() < 0.5
    whole = truth.numpy()[~unsaid.any(1)]
    assert (world.held_out(whole) == 0).all()
