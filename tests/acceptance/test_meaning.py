"""What is asked for is what is seen and heard: the default checkpoint follows its prompts, and chains make sense.

The world's own statistics (:mod:`training.measures`) read colours, shape and motion off the delivered frames.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from chains import chain, frames_of, stage
from longtake.client import Longtake
from longtake.wire import ChainRequest, ChainStage, Transition
from longtake_facade.backend import Pixels
from media import decoded_sound
from training import measures, sound, world

STEPS = 8


def script(*stages: ChainStage) -> ChainRequest:
    """A chain whose frames come back exact."""
    return chain(*stages, steps=STEPS, output_format="apng", motion_tail_frames=17)


def jumps(frames: Pixels) -> world.Floats:
    return measures.difference(frames[:-1], frames[1:])


def said(reading: measures.Reading) -> str:
    return f"{reading.colour} {reading.shape} {reading.motion} on {reading.background}"


def test_the_colours_shape_and_motion_asked_for_are_seen(client: Longtake) -> None:
    """In each of three scenes of one video, worded in three ways."""
    done = client.generate(
        script(
            stage("a red circle moving right on a blue background", 25),
            stage("On a white background, a green square is sliding to the left", 25, Transition.CUT),
            stage("a video of a yellow triangle flying upwards over black", 25, Transition.CUT),
        )
    )
    frames = frames_of(done)
    assert [said(measures.read(frames[n : n + 25])) for n in (0, 25, 50)] == [
        "red circle right on blue",
        "green square left on white",
        "yellow triangle up on black",
    ]


def test_a_smooth_join_is_hardly_seen_and_a_cut_is(client: Longtake) -> None:
    """Across the first the picture changes by a few of 255 levels, and the motion goes on; across the second by many
    times as much."""
    prompt = "a white circle moving right on a purple background"
    smooth = frames_of(client.generate(script(stage(prompt, 25), stage(prompt, 41))))
    cut = frames_of(client.generate(script(stage(prompt, 25), stage("a black square on green", 25, Transition.CUT))))
    assert len(smooth) == 25 + 41 - 17
    assert jumps(smooth)[24] < 8 / 255
    assert jumps(cut)[24] > 8 * jumps(smooth)[24]
    centres = measures.centres(smooth)[:, 0]
    assert (np.diff(centres[::8]) > -1).all()
    assert centres[-1] > centres[24] + 3


def test_a_smooth_stage_with_another_prompt_turns_into_it(client: Longtake) -> None:
    """The take begins with one scene and ends with the other, without a jump in between."""
    done = client.generate(
        script(
            stage("a red square moving left on a white background", 25),
            stage("a blue circle moving down on a yellow background", 41),
        )
    )
    frames = frames_of(done)
    first, last = measures.read(frames[:25]), measures.read(frames[-1:])
    assert said(first) == "red square left on white"
    assert (last.colour, last.shape, last.background) == ("blue", "circle", "yellow")
    assert frames[25:].std() > 0
    assert jumps(frames).max() < 0.1


def test_a_retaken_stage_differs_and_its_neighbours_do_not(client: Longtake) -> None:
    """The new prompt is seen in the middle; first and last scene are the same to the last bit."""
    made = client.submit(
        script(
            stage("a red circle moving right on a white background", 25),
            stage("a green square staying still on a black background", 25, Transition.CUT),
            stage("a yellow triangle moving up on a blue background", 25, Transition.CUT),
        )
    )
    before = frames_of(client.result(made.id))
    retake = client.retake(made.id, 1, prompt="a purple circle growing on a yellow background")
    after = frames_of(client.result(retake.id))
    np.testing.assert_array_equal(after[:25], before[:25])
    np.testing.assert_array_equal(after[50:], before[50:])
    assert said(measures.read(before[25:50])) == "green square still on black"
    assert said(measures.read(after[25:50])) == "purple circle growing on yellow"


def test_a_picture_of_the_world_is_continued(client: Longtake) -> None:
    """The clip begins with it and moves it as the prompt says."""
    attributes = np.array([[1, 3, 4, 0]])
    scene = world.begin(np.random.default_rng(1), attributes, 1)
    picture = ((world.draw(scene)[0, :, 0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    first = stage("a yellow square moving left on a white background", 25, source_image=stream.getvalue())
    frames = frames_of(client.generate(script(first)))
    assert measures.difference(frames[:1], picture[None])[0] < 0.03
    assert said(measures.read(frames)) == "yellow square left on white"


def test_the_sound_belongs_to_the_picture(client: Longtake, tmp_path: Path) -> None:
    """The shape is heard as its note, from the side it moves to."""
    heard = []
    for prompt in ("a red circle moving left on a blue background", "a red triangle moving right on a blue background"):
        done = client.generate(chain(stage(prompt, 25), steps=STEPS, output_format="mp4", enable_audio=True))
        file = tmp_path / "video.mp4"
        done.video_data().save(file)
        assert done.audio_channels == 2
        assert done.audio_sample_rate is not None
        heard.append(sound.pitch_and_side(decoded_sound(file, 2), done.audio_sample_rate))
    assert heard == [(0, "left"), (2, "right")]
