"""The words of the world: how its shapes and motions may be called, and everyday words that mean nothing here.

All that a caption or a paraphrase says is put together from these, so that the tokenizer knows every word of it.
"""

from typing import Final


def _listed(phrases: str) -> tuple[str, ...]:
    return tuple(phrases.split(", "))


def _pairs(phrases: str) -> tuple[tuple[str, str], ...]:
    """``moving / moves, ...``: each phrase as it follows ``is``, and by itself."""
    return tuple((gerund, verb) for gerund, _, verb in (phrase.partition(" / ") for phrase in _listed(phrases)))


SHAPE_WORDS: Final = (
    _listed("circle, ball, disc, dot, sphere, disk, bubble, orb"),
    _listed("square, box, block, cube, rectangle, tile, brick"),
    _listed("triangle, pyramid, cone, arrowhead, wedge"),
)
"""Per shape; the first is its plain name."""
SHAPE_ADJECTIVES: Final = (
    _listed("round, circular"),
    _listed("square, boxy"),
    _listed("triangular, pointed"),
)
"""What one of :data:`THINGS` may be called instead of a noun of its own."""
THINGS: Final = _listed("shape, object, thing, figure, form")

VERBS: Final = _pairs(
    "moving / moves, sliding / slides, drifting / drifts, flying / flies, gliding / glides, travelling / travels, "
    "traveling / travels, rolling / rolls, going / goes, floating / floats, heading / heads, running / runs, shifting "
    "/ shifts"
)
"""Verbs of moving, the plain one first; one of :data:`WAYS` follows."""
WAYS: Final = (
    _listed(
        "left, to the left, towards the left, toward the left, leftwards, leftward, left, to the left, from right to "
        "left, from the right to the left, to the left side, towards the left edge"
    ),
    _listed(
        "right, to the right, towards the right, toward the right, rightwards, rightward, right, to the right, from "
        "left to right, from the left to the right, to the right side, towards the right edge"
    ),
    _listed(
        "up, upwards, upward, up, to the top, towards the top, from bottom to top, from the bottom up, up to the top, "
        "towards the top edge"
    ),
    _listed(
        "down, downwards, downward, down, to the bottom, towards the bottom, from top to bottom, from the top down, "
        "down to the bottom, towards the bottom edge"
    ),
)
"""Per direction: left, right, up, down."""
OTHERWISE: Final = (
    (),
    (),
    _pairs("rising / rises, ascending / ascends, climbing / climbs, rising up / rises up"),
    _pairs(
        "falling / falls, sinking / sinks, dropping / drops, descending / descends, falling down / falls down, sinking "
        "down / sinks down"
    ),
    _pairs(
        "staying still / stays still, standing still / stands still, not moving / does not move, resting / rests, "
        "staying in place / stays in place, keeping still / keeps still, remaining still / remains still, without "
        "moving / stands without motion, sitting still / sits still, remaining in place / remains at rest, not moving "
        "at all / never moves"
    ),
    _pairs(
        "growing / grows, getting bigger / gets bigger, expanding / expands, swelling / swells, growing larger / grows "
        "larger, becoming bigger / becomes bigger, inflating / inflates, getting larger / gets larger, increasing in "
        "size / increases in size, enlarging / enlarges"
    ),
    _pairs(
        "bouncing / bounces, bouncing up and down / bounces up and down, hopping / hops, jumping / jumps, jumping up "
        "and down / jumps up and down, moving up and down / moves up and down, hopping up and down / hops up and down, "
        "going up and down / goes up and down, leaping / leaps"
    ),
)
"""Per motion: what says it without one of :data:`VERBS`."""
STATES: Final = _listed("still, static, at rest, motionless, in place, stationary, immobile, unmoving")
"""What a thing that does not move may be without a verb; the first two may stand before a noun."""

GROUNDS: Final = _listed(
    "background, backdrop, ground, wall, screen, field, canvas, surface, scene, world, space, room, page, paper, area"
)
BEHIND: Final = _listed("on, over, against, in front of, before, across, upon, above, with, in, through, inside")
"""Words that put a background behind a thing."""

ADJECTIVES: Final = _listed(
    "big, small, flat, bright, simple, beautiful, large, tiny, little, shiny, plain, solid, nice, lovely, single, "
    "clean, soft, smooth, bold, vivid, minimal, perfect, lone, glossy"
)
GROUND_ADJECTIVES: Final = _listed(
    "entirely, completely, fully, all, plain, solid, flat, uniform, simple, clean, pure, bright, deep, empty"
)
ADVERBS: Final = _listed("slowly, smoothly, gently, steadily, quickly, softly, quietly, evenly, calmly, just")
OPENINGS: Final = _listed(
    "a video of, a clip of, an animation of, cinematic shot of, a film of, footage of, a scene with, a shot of, video "
    "of, short clip of, close up of, an animated, simple animation of, movie of, a rendering of, picture of, high "
    "quality video of, a 4k video of, wide shot of, a beautiful video of"
)
CLOSINGS: Final = _listed(
    "cinematic, 4k, high quality, 8k, minimal style, smooth motion, flat design, studio lighting, static camera, "
    "masterpiece, best quality, highly detailed, in slow motion, hd, simple animation, cartoon style, the camera does "
    "not move, soft light, sharp focus, vector style, 24 fps, looping"
)

EVERYDAY: Final = _listed(
    "a, about, action, actually, add, again, all, along, also, always, an, and, angle, animated, animation, appear, "
    "appears, are, except, around, art, artistic, as, aspect, at, away, back, be, beauty, begin, begins, behind, "
    "being, best, better, between, both, brightness, but, by, calm, calmly, camera, can, cartoon, center, centre, "
    "change, changes, cinema, cinematic, clear, clip, close, closeup, color, colored, colorful, colors, colour, "
    "coloured, colourful, colours, comes, completely, composition, concept, continue, continues, contrast, continuous, "
    "cool, corner, create, crisp, cut, dark, day, depth, design, detail, detailed, details, digital, direction, "
    "display, does, drawing, drawn, dramatic, during, dynamic, each, edge, effect, elegant, entire, entirely, epic, "
    "even, every, everything, everywhere, exactly, fade, fast, filled, film, fills, fine, first, focus, follow, "
    "following, footage, for, forever, fps, frame, frames, from, front, full, generate, geometric, gentle, give, "
    "graphic, great, hd, here, high, highly, his, how, hue, i, illustration, image, in, inside, into, is, it, its, "
    "just, keep, keeps, kind, last, lens, let, light, lighting, like, line, lit, lone, long, look, looking, looks, "
    "loop, looped, looping, lot, low, made, make, many, masterpiece, me, medium, mid, middle, minimalist, modern, "
    "mood, more, most, motion, move, movement, movie, much, music, my, near, new, next, no, not, now, of, off, one, "
    "only, or, our, out, outside, pace, paint, painted, painting, pan, part, perfectly, photo, photorealistic, "
    "picture, place, please, point, position, presents, pretty, prompt, quality, quick, quiet, quite, real, realistic, "
    "really, render, rendered, rendering, resolution, rest, same, scene, second, seconds, see, seen, sequence, set, "
    "shade, shadow, sharp, short, shot, show, showing, shown, shows, side, size, slow, so, some, something, sound, "
    "space, speed, start, starts, steady, stop, stops, studio, style, stylish, stylized, such, take, takes, that, the, "
    "their, them, then, there, these, they, this, those, through, time, to, tone, toward, towards, tracking, turn, "
    "turns, two, ultra, under, vector, very, vibrant, video, view, visible, visual, want, was, watch, we, what, where, "
    "which, while, whole, whose, wide, will, with, world, you, your, zoom, across, 4k, 8k, 24, 2d, 3d, hdr, aesthetic, "
    "abstract, atmosphere, awesome, ambient, amazing, animate, bokeh, simply, professional, stunning, trending, "
    "unreal, engine, octane, grain, vintage, retro, noir, shape, shaped, object, thing, figure, form, fully, covered, "
    "s, up, down, left, right"
)
"""Everyday words of prompts, known so that they are known to mean nothing."""
_FREQUENT: Final = _listed(
    "camera, cinematic, 4k, 8k, hd, quality, film, shot, video, very, really, beautiful, scene, style, detailed, "
    "simple, smooth, the, a, with, and, nice, lens, light, epic, animation, render, masterpiece, music, sound, studio, "
    "clip, footage, time, one, please, vibrant, geometric, minimalist, realistic, focus, frame, here, there, we, see, "
    "it, is, watch, now, while, as, look, shows, appears, color, colored, that, which, its, your, colour, coloured, "
    "picture, then, this, of, at, some, again, middle, by, through"
)
_TELLING: Final = {
    word
    for phrases in (
        *(*SHAPE_WORDS, *SHAPE_ADJECTIVES, THINGS, *WAYS, STATES, GROUNDS, BEHIND),
        [phrase for group in (VERBS, *OTHERWISE) for pair in group for phrase in pair],
        _listed("behind, around, back, everything, everywhere, stop, stops, no, except, place, move, movement"),
    )
    for phrase in phrases
    for word in phrase.split()
}
MEANINGLESS: Final = (*_FREQUENT, *(word for word in EVERYDAY if word not in _TELLING))
"""What may stand anywhere in a caption without changing what it says; some are there twice, to be met more often."""
UNKNOWN: Final = "xyzzy"
"""Stands for any word that the tokenizer does not know."""
PUNCTUATION: Final = (",", ".", "!", "?", ":", ";", "-", "'", '"', "(", ")", "/")
