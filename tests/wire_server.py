"""A small server that speaks the wire, for tests of the client over a real socket; it renders nothing."""

import asyncio
import hashlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from io import BytesIO

import av
import msgspec
import numpy as np
from aiohttp import web
from aiohttp.test_utils import TestServer

from longtake import wire

CHAIN_ID = "chain-1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PROGRESS: list[wire.ProgressEvent] = [
    wire.Queued(position=0),
    wire.ChainStart(stage_count=2, estimated_total_frames=9),
    wire.StageStart(stage_idx=0),
    wire.DenoiseStep(stage_idx=0, step=1, total=2),
    wire.StageStart(stage_idx=1),
    wire.DenoiseStep(stage_idx=1, step=1, total=2),
    wire.DenoiseStep(stage_idx=0, step=2, total=2),
    wire.StageDone(stage_idx=0, frames_emitted=9),
    wire.StageDone(stage_idx=1, frames_emitted=9),
    wire.Stitching(total_frames=9),
    wire.Encoding(frames=9, total=9),
]


def frame(index: int, count: int) -> np.ndarray:
    """A plain colour, uint8 RGB [32, 64, 3], told from its neighbours by its brightness."""
    return np.full((32, 64, 3), (200, 40 + 120 * index // count, 40), dtype=np.uint8)


def mp4(frames: int = 9) -> bytes:
    """A small video in H.264, BT.709 limited range as the server writes it."""
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "1", "x264-params": "threads=1"})
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.colorspace, stream.color_range = 1, 1
        for i in range(frames):
            picture = av.VideoFrame.from_ndarray(frame(i, frames), format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return file.getvalue()


def script() -> wire.ChainScript:
    """The normalised script of the chain that the server has."""
    return wire.ChainScript(
        schema=wire.SCHEMA,
        chain=wire.ScriptChain(
            model="tiny", width=64, height=32, fps=24, seed=2**64 - 1, steps=2, guidance=1.0, strength=1.0,
            motion_tail_frames=0, output_format="mp4", enable_audio=False,
        ),
        stage=[
            wire.ScriptStage(prompt="a red circle \N{LARGE RED CIRCLE}", frames=9, transition=wire.Transition.SMOOTH),
            wire.ScriptStage(prompt="a blue square", frames=9, transition=wire.Transition.CUT),
        ],
    )  # fmt: skip


def complete(video: bytes, inline: bytes | None = None) -> wire.Complete:
    """The completion of that chain; ``inline`` is what it carries in place of the video."""
    join = wire.Join(stage_idx=1, transition=wire.Transition.CUT, colour_shift=1.5, frame_jump=2.5, inner_jump=0.5)
    return wire.Complete(
        video=video if inline is None else inline, format="mp4", width=64, height=32, frames=9, fps=24,
        stage_count=2, script=script(), thumbnail=b"\x89PNG", gif_preview=b"GIF89a", duration_ms=375,
        generation_time_ms=1200, chain_id=CHAIN_ID,
        content_url=f"/api/chains/{CHAIN_ID}/video", sha256=hashlib.sha256(video).hexdigest(), seed_drawn=False,
        joins=[join],
    )  # fmt: skip


def summary(chain_id: str, state: wire.ChainState = wire.ChainState.COMPLETED) -> wire.ChainSummary:
    """A chain as it is listed."""
    return wire.ChainSummary(
        id=chain_id, state=state, created_at="2026-01-01T00:00:00Z", prompt=script().stage[0].prompt, stage_count=2,
        stages_done=2, total_frames=9, output_format="mp4", events_url=f"/api/chains/{chain_id}/events",
        expires_at="2026-01-08T00:00:00Z",
    )  # fmt: skip


def event(name: str, number: int, data: object) -> bytes:
    """One event as it is on the wire."""
    body = data if isinstance(data, bytes) else msgspec.json.encode(data)
    return b"event: %s\nid: %d\ndata: %s\n\n" % (name.encode(), number, body)


def stream_bytes(video: bytes, after: int = 0, inline: bytes | None = None) -> bytes:
    """The whole stream of the chain, or what comes after the event ``after``."""
    events = [event("progress", n, data) for n, data in enumerate(PROGRESS, 1)]
    events.append(event("complete", len(events) + 1, complete(video, inline)))
    return b"retry: 10\n\n: ping\n\n" + b"".join(events[after:])


async def send(request: web.Request, *parts: bytes, abort: bool = False) -> web.StreamResponse:
    """An event stream of ``parts``, each flushed; ``abort`` breaks the connection after them."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", wire.CHAIN_ID_HEADER: CHAIN_ID})
    await response.prepare(request)
    for part in parts:
        await response.write(part)
        await asyncio.sleep(0)
    if abort:
        assert request.transport is not None
        request.transport.abort()
    return response


def as_json(data: object, status: int = 200, **headers: str) -> web.Response:
    """A JSON answer."""
    return web.Response(body=msgspec.json.encode(data), status=status, content_type="application/json", headers=headers)


class WireServer:
    """Answers as a server whose one chain is always done; ``answers`` are given first, one a request.

    ``others`` are the ids of older chains, which are listed but not there otherwise.
    """

    def __init__(self) -> None:
        self.video = mp4()
        self.others: list[str] = []
        self.answers: deque[Handler] = deque()
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.app = web.Application(client_max_size=2**28)
        self.app.router.add_route("*", "/{path:.*}", self._answer)

    def then(self, *answers: Handler) -> None:
        """Give these answers to the next requests."""
        self.answers.extend(answers)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append((request.method, request.path_qs, dict(request.headers), body))
        if self.answers:
            return await self.answers.popleft()(request)
        return await self._usual(request)

    async def _usual(self, request: web.Request) -> web.StreamResponse:
        chain = f"/api/chains/{CHAIN_ID}"
        fixed: dict[tuple[str, str], web.Response] = {
            ("POST", "/api/chains"): as_json(self._accepted(wire.ChainState.QUEUED), 202),
            ("POST", f"{chain}/cancel"): as_json(self._accepted(wire.ChainState.CANCELLED), 202),
            ("POST", f"{chain}/resume"): as_json(self._accepted(wire.ChainState.QUEUED), 202),
            ("POST", f"{chain}/retake"): as_json(self._accepted(wire.ChainState.QUEUED), 202),
            ("DELETE", chain): web.Response(status=204),
            ("GET", "/api/chains"): self._page(request),
            ("GET", f"{chain}/video"): web.Response(body=self.video, content_type="video/mp4"),
            ("GET", f"{chain}/stages/1/video"): web.Response(body=self.video, content_type="video/mp4"),
            ("GET", chain): as_json(self._detail()),
            ("POST", "/api/chains/validate"): as_json(self._report()),
            ("GET", "/api/capabilities/chain-limits"): as_json(LIMITS),
            ("GET", "/api/models"): as_json([]),
            ("GET", "/api/gallery"): as_json([]),
            ("GET", "/ready"): web.Response(text="ready"),
        }
        if request.path == "/api/generate/chain/stream":
            return await send(request, stream_bytes(self.video))
        if request.path == f"{chain}/events":
            after = int(request.headers.get("Last-Event-ID", "0"))
            if after > len(PROGRESS):
                return web.Response(status=204)
            video = self.video if request.query.get("inline") == "true" else b""
            return await send(request, stream_bytes(self.video, after, inline=video))
        unknown = wire.ApiError(error="no such endpoint", code=wire.ErrorCode.NOT_FOUND, request_id="r-1")
        return fixed.get((request.method, request.path)) or as_json(unknown, 404)

    def _accepted(self, state: wire.ChainState) -> wire.ChainAccepted:
        chain = f"/api/chains/{CHAIN_ID}"
        return wire.ChainAccepted(
            id=CHAIN_ID, state=state, events_url=f"{chain}/events", content_url=f"{chain}/video",
            cancel_url=f"{chain}/cancel",
        )  # fmt: skip

    def _detail(self) -> wire.ChainDetail:
        accepted = msgspec.structs.asdict(self._accepted(wire.ChainState.COMPLETED))
        del accepted["warnings"]
        return wire.ChainDetail(
            **accepted, created_at="2026-01-01T00:00:00Z", stages=[], script=script(), total_frames=9
        )

    def _page(self, request: web.Request) -> web.Response:
        limit, start = int(request.query.get("limit", "20")), int(request.query.get("cursor", "0"))
        ids = [CHAIN_ID, *self.others]
        cursor = str(start + limit) if start + limit < len(ids) else None
        chains = [summary(chain_id) for chain_id in ids[start : start + limit]]
        return as_json(wire.ChainList(chains=chains, next_cursor=cursor))

    def _report(self) -> wire.ValidationReport:
        warning = wire.Problem(path="stages[1].negative_prompt", message="has no effect")
        return wire.ValidationReport(
            script=script(), takes=[[0], [1]], stages=[], total_frames=9, seconds=0.375, warnings=[warning],
            seed_drawn=False,
        )  # fmt: skip


LIMITS = wire.ChainLimits(
    model="tiny", frames_per_clip_cap=97, frames_per_clip_recommended=49, max_stages=16, max_total_frames=1552,
    fade_frames_max=32, transition_modes=list(wire.Transition), quantization_family="none", frame_grid=8,
    size_multiple=32, max_pixels=16384, width=64, height=64, motion_tail_frames=17, fps=24, steps=8, guidance=1.0,
    supports_audio=True,
)  # fmt: skip


@contextmanager
def threaded_server() -> Iterator[tuple[WireServer, str]]:
    """The server in a thread of its own, and its address: for blocking clients."""
    server, loop, stop = WireServer(), asyncio.new_event_loop(), asyncio.Event()
    addresses: list[str] = []
    started = threading.Event()

    async def serve() -> None:
        served = TestServer(server.app)
        await served.start_server()
        addresses.append(f"http://127.0.0.1:{served.port}")
        started.set()
        await stop.wait()
        await served.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(10)
    try:
        yield server, addresses[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
