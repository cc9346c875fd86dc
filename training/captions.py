"""Captions: how the world's clips are asked for, and the tokenizer of their words.

:func:`varied` is what the model is trained on, :func:`paraphrase` what it is tested on: sentences of other builds, of
the same vocabulary. A row of attributes is shape, colour, background and motion, as in :mod:`training.world`.
"""

import functools
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from training import words
from training.components import SEQUENCE_LENGTH
from training.world import COLOURS, MOTIONS, SHAPES, STILL, Ints

_T = TypeVar("_T")

Said = tuple[bool, bool, bool, bool]
"""Which of shape, colour, background and motion a caption says."""

EVERYTHING: Final[Said] = (True, True, True, True)
NOTHING: Final[Said] = (False, False, False, False)
_PARTIAL: Final[tuple[Said, ...]] = (
    *((True, True, False, True),) * 4,  # no background
    *((True, True, True, False),) * 4,  # no motion
    *((True, False, True, True),) * 2,
    *((False, True, True, True),) * 2,
    *((True, True, False, False),) * 4,
    *((True, False, False, True),) * 2,
    (True, False, True, False),
    (False, True, True, False),
    (False, True, False, True),
    (False, False, True, True),
    *((True, False, False, False),) * 3,
    (False, True, False, False),
    (False, False, True, False),
    (False, False, False, True),
    *(NOTHING,) * 3,
)
_SPECIAL: Final = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
"""In the order of their numbers."""
_MOST_WORDS: Final = SEQUENCE_LENGTH - 2  # besides the two that begin and end every prompt

PARAPHRASES: Final = (
    (  # validation: the wording of the training was widened after these were read wrongly
        "There is a {c} {s} that {moves} and behind it everything is {b}.",
        "Show me how a {c} {s} {moves} while the whole background is {b}",
        "I want to see a {c} {s} {moving}, please make the background {b}",
        "Watch the {c} {s}: it {moves} across a {b} field.",
        "We see a {b} wall, and before it a {c} {s} {moving}.",
        "What you see is a {s}. It is {c}. It {moves}. All the background is {b}.",
        "The {s} is {c}, the background is {b} and the {s} {moves}.",
        "Please create a clip where some {c} {s} {moves} in a world of {b}",
        "A {b} canvas fills the frame; on it the {c} {s} {moves}.",
        "Everything is {b} but for one {c} {s} that {moves}",
        "Here the {c} {s} {moves}, with {b} all around it",
        "My {c} {s} {moves} through an entirely {b} space.",
        "Behind the {c} {s}, which {moves}, there is only {b}.",
        "Look, a {c} {s}! It {moves} and the wall behind it is {b}.",
        "In this film you can see how one {c} {s} {moves}, all of it before a background of {b}",
        "{moving}: that is what the {c} {s} does, and its background is {b}.",
    ),
    (  # test: written afterwards, and nothing was changed since
        "Against a {b} wall the {c} {s} {moves}, and nothing else is seen",
        "Can you animate a {s} in {c} so that it {moves}? Use a {b} background.",
        "First there is {b} everywhere, then a {c} {s} which {moves}",
        "The {c} {s} of this picture {moves} and the colour behind it is {b}",
        "For my film: background {b}, one {s}, colour {c}, and it {moves}",
        "A {c} {s} on {b}. Motion: it {moves}.",
    ),
)
"""Builds of sentences that :func:`varied` never makes, for validation and for test."""


def plain(attributes: Ints) -> str:
    """The plainest caption: ``a red circle moving left on a blue background``."""
    shape, colour, background, motion = (int(value) for value in attributes)
    name = MOTIONS[motion]
    moving = "staying still" if motion == STILL else name if motion > STILL else f"moving {name}"
    return f"a {COLOURS[colour]} {SHAPES[shape]} {moving} on a {COLOURS[background]} background"


def varied(attributes: Ints, random: np.random.Generator) -> str:
    """A caption for training: one of very many ways to say the same, of at most 46 words and marks."""
    return _Writer(attributes, random, EVERYTHING).caption()


def draw_said(random: np.random.Generator) -> Said:
    """What a caption that does not say everything says."""
    return _PARTIAL[int(random.integers(len(_PARTIAL)))]


def partial(attributes: Ints, random: np.random.Generator, said: Said | None = None) -> str:
    """A caption that leaves attributes out, or says nothing that means anything at all; worded as :func:`varied`."""
    said = draw_said(random) if said is None else said
    writer = _Writer(attributes, random, said)
    return writer.caption() if any(said) else writer.nothing()


def paraphrase(attributes: Ints, random: np.random.Generator, subset: int) -> str:
    """A caption for evaluation: a sentence built as none of :func:`varied` is, of words of the vocabulary.

    ``subset`` is 1 for validation and 2 for test, as in :func:`training.world.held_out`.
    """
    writer = _Writer(attributes, random, EVERYTHING)
    builds = PARAPHRASES[subset - 1]
    build = builds[int(random.integers(len(builds)))]
    moving, moves = writer.motion_phrases()
    _, colour, background, _ = (int(value) for value in attributes)
    return build.format(
        c=COLOURS[colour],
        b=COLOURS[background],
        s=writer.pick(words.SHAPE_WORDS[attributes[0]]),
        moving=moving,
        moves=moves,
    )


class _Writer:
    """Writes about one row of attributes what ``said`` allows."""

    def __init__(self, attributes: Ints, random: np.random.Generator, said: Said) -> None:
        self._shape, colour, background, self._motion = (int(value) for value in attributes)
        self._colour, self._background = COLOURS[colour], COLOURS[background]
        self._random, self._said = random, said

    def pick(self, choices: Sequence[_T]) -> _T:
        return choices[int(self._random.integers(len(choices)))]

    def _chance(self, share: float) -> bool:
        return bool(self._random.random() < share)

    def _maybe(self, share: float, choices: Sequence[str]) -> str:
        return self.pick(choices) if self._chance(share) else ""

    def caption(self) -> str:
        """Clauses in some order, sprinkled with words that mean nothing."""
        parts = self._clauses()
        if self._chance(0.25):
            parts.insert(0, self.pick(words.OPENINGS))
        for _ in range(self.pick((0, 0, 0, 1, 2))):
            parts.append(", " + self.pick(words.CLOSINGS))
        if self._chance(0.3):
            parts.append(self.pick((".", ".", "!")))
        text = " ".join(part for part in parts if part)
        if self._chance(0.25):
            text = self._sprinkled(text)
        return _shortened(text)

    def nothing(self) -> str:
        """Words that mean nothing, most of them unknown."""
        count = self.pick((0, 1, 2, 3, 5, 8, 12))
        neutral = words.MEANINGLESS
        return " ".join(words.UNKNOWN if self._chance(0.7) else self.pick(neutral) for _ in range(count))

    def _clauses(self) -> list[str]:
        subject, ground = self._subject(), self._ground()
        gerund, verb = self._motion_if_said()
        order = self._random.random()
        if order < 0.4:
            return [subject, self.pick((gerund, verb, gerund and "is " + gerund)), ground]
        if order < 0.52:
            return [subject, ground, self.pick((gerund, gerund, ", " + gerund if gerund else "", verb))]
        if order < 0.64:
            return [ground, self.pick((",", "", ":")) if ground else "", subject, self.pick((gerund, verb, verb))]
        if order < 0.74 and self._said[2]:
            return self._ground_first(subject, gerund, verb)
        if order < 0.8:
            return [gerund, self.pick((",", "")) if gerund else "", subject, ground]
        if order < 0.9:
            return self._sentences(subject, verb)
        return [
            subject,
            self.pick((",", "", "and")),
            gerund,
            self.pick((",", ".", "")),
            self._backdrop() if ground else "",
        ]

    def _ground_first(self, subject: str, gerund: str, verb: str) -> list[str]:
        """What is behind, before or around what is to be seen before it."""
        colour = self._background
        build = self._random.random()
        if build < 0.5:
            front = f"{self._backdrop()} {self.pick(('with', 'and', ',', 'behind', 'showing'))}"
            return [front, subject, self.pick((gerund, verb))]
        if build < 0.75:
            front = self.pick(("everything is", "all is", "everything around is", "it is all", "the whole picture is"))
            return [front, colour, self.pick((",", "and", "except", "with", ":")), subject, self.pick((gerund, verb))]
        front, link = (
            self.pick(("behind", "around", "behind")),
            self.pick(("is", "is all", "is only", ",", "it is", "")),
        )
        ground = colour if self._chance(0.6) else self._backdrop()
        moving = self.pick((gerund, verb, verb and f"it {verb}"))
        if self._chance(0.4):
            return [front, subject, moving, link, ground]
        return [front, subject, link, ground, self.pick((",", ".", "and")) if moving else "", moving]

    def _sentences(self, subject: str, verb: str) -> list[str]:
        """A sentence for each thing that is said, in any order."""
        noun = self._noun()
        about = [f"{self.pick(('the ' + noun, 'it'))} {verb}"] if verb else []
        if self._said[2]:
            about.append(self._ground_sentence())
        if self._said[1] and self._chance(0.5):
            subject = self.pick((f"a {noun}", noun, f"the {noun}"))
            about.append(f"{self.pick(('the ' + noun, 'it', 'its colour'))} is {self._colour}")
        self._random.shuffle(about)
        mark = self.pick((".", ",", ";", ", and"))
        return [subject, *(f"{mark} {sentence}" for sentence in about)]

    def _noun(self) -> str:
        if not self._said[0]:
            return self.pick(words.THINGS)
        if self._chance(0.1):
            return f"{self.pick(words.SHAPE_ADJECTIVES[self._shape])} {self.pick(words.THINGS)}"
        return SHAPES[self._shape] if self._chance(0.35) else self.pick(words.SHAPE_WORDS[self._shape])

    def _subject(self) -> str:
        noun, article = self._noun(), self.pick(("a", "a", "a", "the", "one", "this", "", "some"))
        before, between = self._maybe(0.25, words.ADJECTIVES), self._maybe(0.1, words.ADJECTIVES)
        if self._said[3] and self._motion == STILL and self._chance(0.1):
            before = self.pick(words.STATES[:2])
        if not self._said[1]:
            return _joined(article, before, noun)
        build = self._random.random()
        if build < 0.8:
            coloured = self._maybe(0.08, ("coloured", "colored", ",", "and", "flat", "solid"))
            return _joined(article, before, self._colour, coloured, between, noun)
        if build < 0.87:
            return _joined(
                article, before, noun, self.pick(("of", "in", "that is", "which is", "painted")), self._colour
            )
        if build < 0.94:
            return _joined(
                article, before, noun, self.pick(("of", "in", "with")), self._colour, self.pick(("color", "colour"))
            )
        return _joined(article, before, noun, ",", self._colour, self.pick((",", "", "and", "and")))

    def motion_phrases(self) -> tuple[str, str]:
        """What the shape does, as ``moving left`` and as ``moves left``."""
        otherwise = words.OTHERWISE[self._motion]
        if self._motion >= STILL or (otherwise and self._chance(0.3)):
            return self.pick(otherwise)
        gerund, verb = words.VERBS[0] if self._chance(0.4) else self.pick(words.VERBS)
        way = self.pick(words.WAYS[self._motion])
        return f"{gerund} {way}", f"{verb} {way}"

    def _motion_if_said(self) -> tuple[str, str]:
        if not self._said[3]:
            return "", ""
        if self._motion == STILL and self._chance(0.35):
            state = self.pick(words.STATES)
            return state, f"is {state}"
        gerund, verb = self.motion_phrases()
        before, after = (self._maybe(0.12, words.ADVERBS) for _ in range(2))
        link = self._maybe(0.15, ("that", "which", "it"))
        return _joined(before, gerund, after), _joined(link, before, verb, after)

    def _ground(self) -> str:
        """The background as it follows the rest."""
        if not self._said[2]:
            return ""
        build = self._random.random()
        if build < 0.6:
            behind = "on" if self._chance(0.4) else self.pick(words.BEHIND)
            return f"{behind} {self._backdrop(articles=('a', 'a', 'a', 'the', ''))}"
        if build < 0.8:
            return f"{self.pick(('on', 'over', 'against', 'on', 'in front of', 'before'))} {self._background}"
        if build < 0.9:
            where = self.pick(("behind it", "behind", "all around", "around it", "in the back"))
            return f"with {self._background} {where}"
        return self.pick(("while ", "where ", "and ", ", ")) + self._ground_sentence()

    def _backdrop(self, articles: Sequence[str] = ("a", "the", "", "")) -> str:
        ground = "background" if self._chance(0.5) else self.pick(words.GROUNDS)
        adjective = self._maybe(0.2, words.GROUND_ADJECTIVES)
        if self._chance(0.1):
            return _joined(self.pick(articles), ground, self.pick(("of", "in", "that is")), self._background)
        return _joined(self.pick(articles), adjective, self._background, ground)

    def _ground_sentence(self) -> str:
        ground = "background" if self._chance(0.5) else self.pick(words.GROUNDS)
        return self.pick(
            (
                f"the {ground} is {self._background}",
                f"the {ground} is {self._background}",
                f"its {ground} is {self._background}",
                f"{ground} : {self._background}",
                f"behind it is {self._background}",
                f"behind it a {self._background} {ground}",
                f"{self._background} {ground}",
                f"the rest is {self._background}",
                f"{self.pick(('everything', 'all', 'everything else'))} is {self._background}",
                f"behind the {self._noun()} {self.pick(('is', 'there is', 'it is all'))} {self._background}",
                f"{self._background} is {self.pick(('behind', 'around'))} {self.pick(('it', 'the ' + self._noun()))}",
                f"the {ground} behind is all {self._background}",
            )
        )

    def _sprinkled(self, text: str) -> str:
        """``text`` with words that mean nothing between its own, or without its articles."""
        found = text.split()
        if self._chance(0.3):
            found = [word for word in found if word not in ("a", "the", "is")]
        for _ in range(self.pick((0, 1, 1, 2, 4))):
            added = words.UNKNOWN if self._chance(0.4) else self.pick(words.MEANINGLESS)
            found.insert(int(self._random.integers(len(found) + 1)), added)
        return " ".join(found)


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _shortened(text: str) -> str:
    """``text`` without the closing words for which there is no room."""
    found = _split(text)
    return text if len(found) <= _MOST_WORDS else " ".join(found[:_MOST_WORDS])


def _split(text: str) -> list[str]:
    return [word for word, _ in _pre_tokenizer().pre_tokenize_str(text.lower())]


def vocabulary() -> list[str]:
    """Every token, by its number."""
    phrases = [
        *SHAPES,
        *COLOURS,
        *(word for group in (*words.SHAPE_WORDS, *words.SHAPE_ADJECTIVES, *words.WAYS) for word in group),
        *(word for group in (words.VERBS, *words.OTHERWISE) for pair in group for word in pair),
        *(*words.THINGS, *words.STATES, *words.GROUNDS, *words.BEHIND),
        *(*words.ADJECTIVES, *words.GROUND_ADJECTIVES, *words.ADVERBS, *words.OPENINGS, *words.CLOSINGS),
        *(*words.EVERYDAY, *words.MEANINGLESS),
        *(build for builds in PARAPHRASES for build in builds),
    ]
    known = {word for phrase in phrases for word in _split(phrase) if word.isalnum() and len(word) > 1}
    known |= {"a", "i", "s", *words.PUNCTUATION}
    return [*_SPECIAL.values(), *sorted(known)]


@functools.cache
def _pre_tokenizer() -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")])


@functools.cache
def tokenizer() -> Any:
    """The ``PreTrainedTokenizerFast`` of the world's words: lower case, every mark a token, padded on the left."""
    built = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(vocabulary())}, unk_token=_SPECIAL["unk_token"])
    )
    built.normalizer = normalizers.Lowercase()
    built.pre_tokenizer = _pre_tokenizer()
    built.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    wrapped: Any = PreTrainedTokenizerFast
    return wrapped(
        tokenizer_object=built,
        **_SPECIAL,
        padding_side="left",
        model_max_length=SEQUENCE_LENGTH,
    )
