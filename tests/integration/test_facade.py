"""The facade over a socket, with the client: what a user of a running server sees."""

import io
import itertools
from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import numpy as np
import pytest
from PIL import Image

from chains import JSON, chain, four, frames_of, stage
from facade_server import Server, serving
from longtake import wire
from longtake.client import Longtake
from longtake.errors import IdempotencyConflict, LongtakeError, ModelNotFound, ValidationFailed
from longtake.streams import Completion
from longtake.wire import ChainRequest, ChainState, Transition
from longtake_facade.backend import Pixels
from longtake_facade.memory import MemoryBackend, clip_frames, context_of, latents_of
from served import PALETTE, TINY


@pytest.fixture(scope="module")
def backend() -> MemoryBackend:
    return MemoryBackend(TINY, instances=2)


@pytest.fixture(scope="module")
def server(backend: MemoryBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("data"), backend, cors_origin=["https://page.example"]) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Longtake]:
    with Longtake(server.url) as opened:
        yield opened


@pytest.fixture
def http(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=30) as opened:
        yield opened


def image_file(pixels: Pixels) -> bytes:
    """A PNG of RGB ``[height, width, 3]``."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


# --------------------------------------------------------------------------------------------------- the stream


def test_a_chain_streams_its_progress_and_ends_with_its_video(client: Longtake) -> None:
    """Every kind of event is there, stages are in order each, and exactly one event ends the stream."""
    with client.stream(four()) as stream:
        events = list(stream)
        chain_id = stream.chain_id
    assert [type(event) for event in events[:1]] == [wire.ChainStart]
    assert [isinstance(event, Completion) for event in events].count(True) == 1
    done = events[-1]
    assert isinstance(done, Completion)
    assert done.chain_id == chain_id
    for index in range(4):
        of_stage = [event for event in events if getattr(event, "stage_idx", None) == index]
        kinds = [type(event) for event in of_stage]
        assert kinds == [wire.StageStart, wire.DenoiseStep, wire.DenoiseStep, wire.StageDone, wire.StageMedia]
        assert [event.step for event in of_stage if isinstance(event, wire.DenoiseStep)] == [1, 2]
    start = next(event for event in events if isinstance(event, wire.ChainStart))
    stitching = next(event for event in events if isinstance(event, wire.Stitching))
    total = 17 + (25 - 9) + 17 + (17 - 5)
    assert start.estimated_total_frames == stitching.total_frames == done.frames == total
    assert len(frames_of(done)) == total


def test_event_numbers_have_no_gap(http: httpx2.Client) -> None:
    """They are the SSE ids, from 1, one an event; the stream says how long to wait before coming back."""
    answer = http.post("/api/generate/chain/stream", content=msgspec.json.encode(four()), headers=JSON)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    lines = answer.text.split("\n")
    numbers = [int(line.removeprefix("id: ")) for line in lines if line.startswith("id: ")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert lines[0] == "retry: 2000"
    assert [line for line in lines if line.startswith("event: ")][-1] == "event: complete"
    assert [line for line in lines if line.startswith("event: ")][:-1] == ["event: progress"] * (len(numbers) - 1)


def test_the_video_holds_exactly_the_frames_of_the_plan(client: Longtake) -> None:
    """As apng, every frame equals the clips put together by hand, the fade by the contract's formula."""
    done = client.generate(four(output_format="apng"))

    def clip(prompt: str, frames: int, head: Pixels | None = None) -> Pixels:
        job = next(job for job in jobs if job.prompt == prompt and job.frames == frames)
        rendered = clip_frames(job, latents_of(job, context_of(prompt, "")))
        if head is not None:
            rendered[: len(head)] = head
        return rendered

    memory = MemoryBackend(TINY)
    jobs = memory.jobs
    for one in done.script.stage:
        memory.jobs.append(_job(done, one))
    a = clip("a", 17)
    b = clip("b", 25, head=a[-9:])
    c = clip("c", 17)
    d = clip("d", 17)
    n = 5
    fade = [((n - i) * c[17 - n + i].astype(int) + i * d[i].astype(int)) // n for i in range(n)]
    expected = np.concatenate([a, b[9:], c[: 17 - n], np.array(fade, np.uint8), d[n:]])
    np.testing.assert_array_equal(frames_of(done), expected)


def _job(done: Completion, one: wire.ScriptStage) -> Any:
    from longtake_facade.backend import ClipJob

    settings = done.script.chain
    return ClipJob(
        prompt=one.prompt,
        negative_prompt="",
        width=settings.width,
        height=settings.height,
        frames=one.frames,
        fps=settings.fps,
        seed=settings.seed or 0,
        steps=settings.steps,
        guidance=settings.guidance,
        pixel_format="rgb24",
    )


def test_the_echo_sent_again_gives_the_same_video(client: Longtake) -> None:
    """Also where the seed was drawn and the length trimmed."""
    first = client.generate(ChainRequest(prompt="x", total_frames=40, clip_frames=25, steps=1, motion_tail_frames=9))
    assert first.seed_drawn
    assert first.frames == 40
    again = client.generate(first.script)
    assert again.script == first.script
    assert again.seed_drawn is False
    np.testing.assert_array_equal(frames_of(again), frames_of(first))


@pytest.mark.parametrize("format_", ["mp4", "gif", "apng", "webp"])
def test_every_format_is_really_produced(client: Longtake, format_: str) -> None:
    """The file's own signature says what it is; only mp4 has sound."""
    done = client.generate(four(output_format=format_))
    video = done.video_data()
    signatures = {"mp4": (4, b"ftyp"), "gif": (0, b"GIF89a"), "apng": (0, b"\x89PNG"), "webp": (8, b"WEBP")}
    at, signature = signatures[format_]
    assert video.data[at : at + len(signature)] == signature
    assert done.format == format_
    assert done.has_audio == (format_ == "mp4")
    assert (done.audio_sample_rate, done.audio_channels) == ((16000, 2) if format_ == "mp4" else (None, None))


def test_the_payload_brings_a_thumbnail_and_a_looping_preview(client: Longtake) -> None:
    """A PNG of the first frame at full size, and a GIF with more than one frame."""
    video = client.generate(four()).video_data()
    assert video.thumbnail is not None
    assert video.gif_preview is not None
    picture = Image.open(io.BytesIO(video.thumbnail))
    assert (picture.format, picture.size) == ("PNG", (64, 64))
    preview = Image.open(io.BytesIO(video.gif_preview))
    assert preview.format == "GIF"
    assert getattr(preview, "n_frames", 1) > 1
    assert preview.info["loop"] == 0


def test_metadata_only_leaves_the_video_out(http: httpx2.Client) -> None:
    """By header, or by ?inline=false; the rest of the payload is there."""
    body = msgspec.json.encode(four())
    by_header = http.post(
        "/api/generate/chain/stream", content=body, headers={**JSON, "X-Mold-SSE-Payload": "metadata-only"}
    )
    by_query = http.post("/api/generate/chain/stream?inline=false", content=body, headers=JSON)
    for answer in (by_header, by_query):
        data = [line for line in answer.text.split("\n") if line.startswith("data: ")][-1]
        complete = msgspec.json.decode(data.removeprefix("data: "), type=wire.Complete)
        assert complete.video == b""
        assert complete.thumbnail
        assert complete.frames == 62


def test_the_joins_are_reported_one_for_each_boundary(client: Longtake) -> None:
    """With what kind of join it is."""
    joins = client.generate(four()).joins
    assert joins is not None
    assert [(join.stage_idx, join.transition) for join in joins] == [(1, "smooth"), (2, "cut"), (3, "fade")]


# ------------------------------------------------------------------------------------------------ takes, images


def test_a_source_image_is_the_first_frame(client: Longtake, backend: MemoryBackend) -> None:
    """Scaled to cover the clip; its strength and place are those of the stage's transition."""
    file = io.BytesIO()
    Image.new("RGB", (128, 64), (10, 200, 30)).save(file, "PNG")
    image = file.getvalue()
    del backend.jobs[:]
    done = client.generate(
        chain(
            stage("i", source_image=image),
            stage("j", source_image=image),
            stage("k", 17, Transition.CUT, source_image=image),
            output_format="apng",
        )
    )
    np.testing.assert_array_equal(frames_of(done)[0], np.full((64, 64, 3), (10, 200, 30)))
    by_prompt = {job.prompt: [(c.frame, len(c.frames), c.strength) for c in job.conditions] for job in backend.jobs}
    assert by_prompt == {"i": [(0, 1, 1.0)], "j": [(0, 9, 1.0), (9, 1, 0.4)], "k": [(0, 1, 1.0)]}
    assert [one.source_image for one in done.script.stage] == [image] * 3


def test_stages_use_their_own_seeds(client: Longtake, backend: MemoryBackend) -> None:
    """seed XOR seed_offset."""
    del backend.jobs[:]
    client.generate(chain(stage("s"), stage("t", 17, Transition.CUT, seed_offset=5), seed=2**64 - 1))
    assert {job.prompt: job.seed for job in backend.jobs} == {"s": 2**64 - 1, "t": (2**64 - 1) ^ 5}


def test_what_was_rendered_is_not_rendered_again(client: Longtake, backend: MemoryBackend) -> None:
    """A chain that shares its first stages with an earlier one renders only the others."""
    shared = [stage("shared one"), stage("shared two", 17, Transition.CUT)]
    client.generate(chain(*shared, stage("old end", 17, Transition.CUT)))
    del backend.jobs[:]
    client.generate(chain(*shared, stage("new end", 17, Transition.CUT)))
    assert [job.prompt for job in backend.jobs] == ["new end"]


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("body", "status", "code", "path"),
    [
        (b"{", 400, "BAD_REQUEST", None),
        (b"[]", 422, "VALIDATION_ERROR", ""),
        (b"{}", 422, "VALIDATION_ERROR", "stages"),
        (b'{"model": "sora", "stages": []}', 404, "MODEL_NOT_FOUND", None),
        (
            b'{"stages": [{"prompt": "a", "frames": 9}, {"prompt": "b", "frames": 9, "transitoin": "cut"}]}',
            422,
            "VALIDATION_ERROR",
            "stages[1].transitoin",
        ),
        (b'{"stages": [{"prompt": "a", "frames": 10}]}', 422, "VALIDATION_ERROR", "stages[0].frames"),
    ],
)
@pytest.mark.parametrize(
    "url", ["/api/generate/chain/stream", "/api/generate/chain", "/api/chains", "/api/chains/validate"]
)
def test_what_is_refused_costs_the_models_nothing(
    http: httpx2.Client, backend: MemoryBackend, url: str, body: bytes, status: int, code: str, path: str | None
) -> None:
    """The answer is JSON with the code and the field, and no call was made."""
    calls = backend.calls
    answer = http.post(url, content=body, headers=JSON)
    error = msgspec.json.decode(answer.content, type=wire.ApiError)
    assert (answer.status_code, error.code, error.path or None) == (status, code, path or None)
    assert error.request_id
    assert backend.calls == calls


@pytest.mark.parametrize(
    ("method", "url", "headers", "status", "code"),
    [
        ("GET", "/nothing", {}, 404, "NOT_FOUND"),
        ("DELETE", "/health", {}, 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/api/chains", {"Content-Type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", "/api/chains", {}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", "/api/generate/chain", {**JSON, "Accept": "text/html"}, 406, "NOT_ACCEPTABLE"),
        ("GET", "/api/chains/nothing", {}, 404, "CHAIN_NOT_FOUND"),
        ("GET", "/api/chains/nothing/events", {}, 404, "CHAIN_NOT_FOUND"),
        ("POST", "/api/chains/..%2f..%2fetc/cancel", {}, 404, "CHAIN_NOT_FOUND"),
        ("GET", f"/api/chains/{'0' * 32}", {}, 404, "CHAIN_NOT_FOUND"),
        ("GET", f"/api/chains/{'0' * 32}/events", {}, 404, "CHAIN_NOT_FOUND"),
        ("POST", f"/api/chains/{'0' * 32}/cancel", {}, 404, "CHAIN_NOT_FOUND"),
        ("GET", "/api/capabilities/chain-limits?model=sora", {}, 404, "MODEL_NOT_FOUND"),
        ("GET", "/api/gallery/image/none.mp4", {}, 404, "NOT_FOUND"),
        ("GET", "/health", {"Host": "evil.example"}, 403, "FORBIDDEN_HOST"),
        ("GET", "/health", {"Host": "evil.example:80"}, 403, "FORBIDDEN_HOST"),
    ],
)
def test_errors_are_json_with_a_code(
    http: httpx2.Client, method: str, url: str, headers: dict[str, str], status: int, code: str
) -> None:
    """Whatever went wrong, and whoever noticed it."""
    answer = http.request(method, url, headers=headers, content=b"{}" if method == "POST" else None)
    error = msgspec.json.decode(answer.content, type=wire.ApiError)
    assert (answer.status_code, error.code) == (status, code)


def test_a_body_over_the_limit_is_refused(http: httpx2.Client) -> None:
    """64 MiB and not a byte more is read."""
    answer = http.post("/api/chains", content=b" " * (64 * 2**20 + 1), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_the_client_raises_the_error_of_the_code(client: Longtake) -> None:
    """With path and problems, so that a program can point at the field."""
    with pytest.raises(ValidationFailed) as caught:
        client.generate(chain(stage("x", 10)))
    assert caught.value.path == "stages[0].frames"
    with pytest.raises(ModelNotFound):
        client.validate(chain(stage("x"), model="sora"))


def test_cross_origin_calls_need_a_named_origin(http: httpx2.Client) -> None:
    """No CORS header for anybody else."""
    named = http.get("/health", headers={"Origin": "https://page.example"})
    assert named.headers["access-control-allow-origin"] == "https://page.example"
    other = http.get("/health", headers={"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers
    preflight = http.options(
        "/api/chains", headers={"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]


# -------------------------------------------------------------------------------------------- the durable chain


def test_events_are_replayed_after_the_last_one_seen(client: Longtake, http: httpx2.Client) -> None:
    """No number is refused; past the end of an ended chain there is nothing more, which a browser has to be told."""
    done = client.generate(four())
    url = f"/api/chains/{done.chain_id}/events"
    whole = http.get(url).text
    last = int([line for line in whole.split("\n") if line.startswith("id: ")][-1][4:])
    rest = http.get(url, headers={"Last-Event-ID": str(last - 2)}).text
    assert [line for line in rest.split("\n") if line.startswith("id: ")] == [f"id: {last - 1}", f"id: {last}"]
    assert '"video":""' in rest
    assert '"video":""' not in http.get(f"{url}?inline=true").text
    assert http.get(url, headers={"Last-Event-ID": str(last)}).status_code == 204
    assert http.get(url, headers={"Last-Event-ID": "10000"}).status_code == 204
    for bad in ("x", "-1", "1.5", "\uff19"):
        answer = http.get(url, headers={"Last-Event-ID": bad.encode()})
        assert (answer.status_code, answer.json()["path"]) == (422, "Last-Event-ID")


def test_an_idempotency_key_finds_the_chain_again(client: Longtake) -> None:
    """The same body: the same chain, on any of the three endpoints; another body is a conflict."""
    first = client.submit(four(), idempotency_key="key-1")
    assert client.submit(four(), idempotency_key="key-1").id == first.id
    assert client.generate(four(), idempotency_key="key-1").chain_id == first.id
    with pytest.raises(IdempotencyConflict):
        client.submit(four(seed=4), idempotency_key="key-1")


def test_a_chain_shows_its_stages_and_where_their_files_are(client: Longtake, http: httpx2.Client) -> None:
    """Files come with Range and ETag, and a stage's has its own frames only."""
    done = client.generate(four())
    assert done.chain_id is not None
    detail = client.chain(done.chain_id)
    assert detail.state is ChainState.COMPLETED
    assert [one.output_frames for one in detail.stages] == [17, 16, 17 - 5, 17]
    whole = http.get(detail.content_url)
    assert whole.headers["content-type"] == "video/mp4"
    part = http.get(detail.content_url, headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    same = http.get(detail.content_url, headers={"If-None-Match": whole.headers["etag"]})
    assert same.status_code == 304
    assert http.get(f"/api/chains/{done.chain_id}/thumbnail").content == done.thumbnail
    assert http.get(f"/api/chains/{done.chain_id}/preview").content == done.gif_preview
    assert detail.stages[1].video_url is not None
    assert http.get(detail.stages[1].video_url).headers["content-type"] == "video/mp4"
    assert http.get(f"/api/chains/{done.chain_id}/stages/4/video").status_code == 404


def test_a_stage_whose_frames_are_all_in_fades_has_no_part_of_its_own(client: Longtake, http: httpx2.Client) -> None:
    """The chain is whole all the same."""
    done = client.generate(
        chain(
            stage("a", 17),
            stage("b", 9, Transition.FADE, fade_frames=4),
            stage("c", 17, Transition.FADE, fade_frames=5),
        )
    )
    assert done.frames == 17 + 9 + 17 - 9
    assert done.chain_id is not None
    assert client.chain(done.chain_id).stages[1].video_url is None
    answer = http.get(f"/api/chains/{done.chain_id}/stages/1/video")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


# ------------------------------------------------------------------------------------------- the rest of the API


def test_the_blocking_endpoint_answers_json_or_the_file(http: httpx2.Client) -> None:
    """By Accept; both carry the chain's id."""
    body = msgspec.json.encode(four())
    as_json = http.post("/api/generate/chain", content=body, headers=JSON)
    response = msgspec.json.decode(as_json.content, type=wire.ChainResponse)
    assert response.chain_id == as_json.headers["X-Chain-Id"]
    assert (response.stage_count, response.video.frames) == (4, 62)
    as_file = http.post("/api/generate/chain", content=body, headers={**JSON, "Accept": "video/*"})
    assert as_file.headers["content-type"] == "video/mp4"
    assert as_file.content == response.video.data


def test_validate_says_what_would_run(client: Longtake, backend: MemoryBackend) -> None:
    """And asks nothing of the models."""
    calls = backend.calls
    report = client.validate(four())
    assert report.takes == [[0, 1], [2], [3]]
    assert [(one.start_frame, one.output_frames) for one in report.stages] == [(0, 17), (17, 16), (33, 12), (45, 17)]
    assert (report.total_frames, report.seconds) == (62, 62 / 24)
    assert backend.calls == calls


def test_warnings_reach_whoever_starts_a_chain(client: Longtake, http: httpx2.Client) -> None:
    """In the answer of the endpoint that does not stream."""
    accepted = client.submit(chain(stage("x", negative_prompt="blur")))
    assert [warning.path for warning in accepted.warnings] == ["stages[0].negative_prompt"]
    body = b'{"title": "t", "stages": [{"prompt": "a", "frames": 9}]}'
    assert [one["path"] for one in http.post("/api/chains", content=body, headers=JSON).json()["warnings"]] == ["title"]


def test_a_picture_of_another_world_is_accepted_with_a_warning(client: Longtake, http: httpx2.Client) -> None:
    """In what validate and the submission answer, and kept with the chain; the chain renders all the same."""
    random = np.random.default_rng(0)
    request = chain(stage("x", 9, source_image=image_file(random.integers(0, 256, (48, 64, 3), np.uint8))))
    accepted = client.submit(request)
    assert [one.path for one in accepted.warnings] == ["stages[0].source_image"]
    assert "the nearest scene" in accepted.warnings[0].message
    assert client.validate(request).warnings == accepted.warnings
    assert client.wait(accepted.id).state is ChainState.COMPLETED
    assert client.chain(accepted.id).warnings == accepted.warnings
    kept = http.get(f"/api/chains/{accepted.id}").json()["warnings"]
    assert kept == msgspec.to_builtins(accepted.warnings)


def test_a_picture_of_the_model_s_world_has_no_warning(client: Longtake, http: httpx2.Client) -> None:
    """And then the answers have no such key, or an empty list."""
    pixels = np.full((64, 64, 3), PALETTE["blue"], np.uint8)
    pixels[20:44, 20:44] = PALETTE["yellow"]
    request = chain(stage("x", 9, source_image=image_file(pixels)))
    accepted = client.submit(request)
    assert (accepted.warnings, client.validate(request).warnings) == ([], [])
    assert client.wait(accepted.id).state is ChainState.COMPLETED
    assert "warnings" not in http.get(f"/api/chains/{accepted.id}").json()


def test_limits_are_what_is_enforced(client: Longtake) -> None:
    """A clip of the cap is accepted, one of the next length is not."""
    limits = client.limits()
    assert (limits.frames_per_clip_cap, limits.max_stages, limits.max_total_frames) == (97, 16, 16 * 97)
    client.validate(chain(stage("x", limits.frames_per_clip_cap)))
    with pytest.raises(LongtakeError):
        client.validate(chain(stage("x", limits.frames_per_clip_cap + limits.frame_grid)))


def test_the_gallery_shows_finished_chains(client: Longtake, http: httpx2.Client) -> None:
    """Newest first, with how they were made; their files by name."""
    done = client.generate(four(seed=99))
    item = client.gallery()[0]
    assert (item.metadata.chain, item.metadata.seed, item.metadata.prompt) == (done.chain_id, 99, "a")
    assert len(http.get(f"/api/gallery/image/{item.filename}").content) == item.size_bytes
    assert http.get(f"/api/gallery/thumbnail/{item.filename}").content == done.thumbnail


def test_health_readiness_and_models_answer(client: Longtake, http: httpx2.Client) -> None:
    """Without a render per probe."""
    assert http.get("/health").status_code == 200
    assert http.get("/ready").json() == {"ready": True}
    assert [model.name for model in client.models()] == ["tiny-ltx2"]


def test_a_large_payload_does_not_hold_up_other_streams(server: Server, client: Longtake, http: httpx2.Client) -> None:
    """A complete event of 64 MB arrives whole, while another chain runs from start to end."""
    done = client.generate(chain(stage("large payload")))
    assert done.chain_id is not None
    large = np.random.default_rng(0).bytes(48 * 10**6)
    path = server.service.store.chain(done.chain_id) / "video.mp4"
    path.write_bytes(large)
    with http.stream("GET", f"/api/chains/{done.chain_id}/events?inline=true") as answer:
        pieces = answer.iter_bytes()
        received = [next(pieces)]
        # The large event is under way; this client reads nothing more of it for now.
        assert client.generate(chain(stage("meanwhile"))).frames == 17
        received += list(pieces)
    text = b"".join(received)
    assert len(text) > 64 * 10**6
    data = next(line for line in text.split(b"\n") if line.startswith(b'data: {"video":"'))
    assert msgspec.json.decode(data[6:], type=wire.Complete).video == large


def test_two_streams_of_one_chain_see_the_same(client: Longtake) -> None:
    """Whoever joins late is told everything from the start."""
    accepted = client.submit(four(seed=1234))
    with client.events(accepted.id) as one, client.events(accepted.id) as other:
        for left, right in itertools.zip_longest(one, other):
            assert left == right
