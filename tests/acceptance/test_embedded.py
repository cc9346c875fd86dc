"""The embedded server from its start to its end, with models that need no checkpoint."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import psutil
import pytest
from tritonclient.grpc.aio import InferenceServerClient

from longtake_facade.backend import BackendUnavailable
from longtake_facade.embedded import EmbeddedTriton, EmbeddedTritonError, embedded_triton
from longtake_facade.triton import TritonBackend
from longtake_stages.contract import Capabilities

MODEL = """
class TritonPythonModel:
    def execute(self, requests):
        return []
"""
BROKEN_MODEL = """
class TritonPythonModel:
    def initialize(self, args):
        raise RuntimeError("this model is broken on purpose")
"""
CONFIG = """
backend: "python"
max_batch_size: 0
output [ { name: "x" data_type: TYPE_INT32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_AUTO count: 1 } ]
"""

CAPABILITIES = Capabilities(
    model="none",
    family="ltx2",
    description="",
    checkpoint_digest="",
    width=64,
    height=64,
    size_multiple=32,
    max_pixels=4096,
    fps=24,
    steps=1,
    guidance=1.0,
    frame_grid=8,
    frames_cap=97,
    frames_recommended=97,
    motion_tail_frames=17,
)

Repository = Callable[..., Path]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Writes a model repository of the given models and their code."""

    def write(**models: str) -> Path:
        for name, code in models.items():
            folder = tmp_path / "repository" / name
            (folder / "1").mkdir(parents=True)
            (folder / "1" / "model.py").write_text(code)
            (folder / "config.pbtxt").write_text(CONFIG)
        return tmp_path / "repository"

    return write


def processes_of(server: EmbeddedTriton) -> list[psutil.Process]:
    process = psutil.Process(server.pid)
    return [process, *process.children(recursive=True)]


def alive(process: psutil.Process) -> bool:
    """A zombie is dead: it only waits for whatever adopted it to take note."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def shared_memory(server: EmbeddedTriton) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{server.shared_memory_prefix}*"))


async def test_a_server_runs_while_its_context_is_open_and_leaves_nothing(
    repository: Repository, tmp_path: Path
) -> None:
    """It is ready, on the loopback address alone, with the instances asked for; afterwards nothing of it is left."""
    models = repository(one=MODEL, denoiser=MODEL)
    async with embedded_triton(
        tmp_path / "run",
        checkpoint="unused",
        instances={"denoiser": 2},
        model_repository=models,
        models=["one", "denoiser"],
    ) as server:
        processes = processes_of(server)
        connections = [each for process in processes for each in process.net_connections()]
        listening = {each.laddr.ip.removeprefix("::ffff:") for each in connections if each.status == "LISTEN"}
        assert listening == {"127.0.0.1"}
        assert len([process for process in processes if "stub" in process.name()]) == 3
        async with aiohttp.ClientSession() as session, session.get(server.metrics_url) as answer:
            assert answer.status == 200
        assert "denoiser" in server.log_tail()
        assert shared_memory(server)
    assert not [process for process in processes if alive(process)]
    assert not shared_memory(server)
    assert not (tmp_path / "run" / "triton.pid").exists()
    assert not list(models.rglob("__pycache__"))


async def test_a_model_that_cannot_load_shows_the_end_of_the_log(repository: Repository, tmp_path: Path) -> None:
    """The error says why, in the words of the model."""
    models = repository(one=BROKEN_MODEL)
    with pytest.raises(EmbeddedTritonError, match="this model is broken on purpose"):
        async with embedded_triton(tmp_path / "run", checkpoint="unused", model_repository=models, models=["one"]):
            pytest.fail("it is not ready")


async def test_a_checkpoint_that_is_not_there_shows_its_name(tmp_path: Path) -> None:
    """The models of the repository itself refuse a folder that is no checkpoint."""
    (tmp_path / "nothing").mkdir()
    source = Path(__file__).parents[2] / "model_repository" / "capabilities"
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "capabilities").symlink_to(source)
    with pytest.raises(EmbeddedTritonError, match=r"is no LTX-2 diffusers folder: it has no model_index\.json"):
        async with embedded_triton(
            tmp_path / "run",
            checkpoint=str(tmp_path / "nothing"),
            model_repository=tmp_path / "repository",
            models=["capabilities"],
        ):
            pytest.fail("it is not ready")


async def test_a_model_that_never_appears_ends_in_a_timeout(repository: Repository, tmp_path: Path) -> None:
    """A server that serves other models than expected is not taken for ready."""
    with pytest.raises(EmbeddedTritonError, match=r"not ready after 4 s: missing\n"):
        async with embedded_triton(
            tmp_path / "run",
            checkpoint="unused",
            model_repository=repository(one=MODEL),
            models=["one", "missing"],
            start_timeout=4,
        ):
            pytest.fail("it is not ready")
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if str(tmp_path) in command]


async def test_a_second_server_in_the_same_folder_is_refused(repository: Repository, tmp_path: Path) -> None:
    """The folder belongs to one server, which goes on undisturbed."""
    models = repository(one=MODEL)
    options = {"checkpoint": "unused", "model_repository": models, "models": ["one"]}
    async with embedded_triton(tmp_path / "run", **options) as server:
        with pytest.raises(EmbeddedTritonError, match="another server uses the folder"):
            async with embedded_triton(tmp_path / "run", **options):
                pytest.fail("it was refused")
        assert psutil.pid_exists(server.pid)


async def test_a_server_that_dies_is_noticed(repository: Repository, tmp_path: Path) -> None:
    """``died`` returns with the status and the log."""
    models = repository(one=MODEL)
    async with embedded_triton(
        tmp_path / "run", checkpoint="unused", model_repository=models, models=["one"]
    ) as server:
        os.kill(server.pid, signal.SIGKILL)
        assert "ended with status -9" in await server.died()


PARENT = """
import asyncio, sys
from pathlib import Path
from longtake_facade.embedded import embedded_triton

async def main():
    async with embedded_triton(
        Path(sys.argv[1]), checkpoint="unused", model_repository=Path(sys.argv[2]), models=["one"]
    ) as server:
        print(server.pid, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_killed_parent_takes_its_server_along(repository: Repository, tmp_path: Path) -> None:
    """SIGKILL of the facade ends the server, and the folder can be used again at once, its memory cleaned."""
    models = repository(one=MODEL)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(tmp_path / "run"), str(models)), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    orphan = psutil.Process(int(await process.stdout.readline()))
    process.kill()
    await process.communicate()
    async with embedded_triton(
        tmp_path / "run", checkpoint="unused", model_repository=models, models=["one"]
    ) as server:
        assert not alive(orphan)
        assert len(shared_memory(server)) == 1
    assert not shared_memory(server)


async def test_a_pid_that_is_another_process_by_now_is_left_alone(repository: Repository, tmp_path: Path) -> None:
    """Only a process with the recorded start time is ended: a pid file may outlive its process and its number."""
    bystander = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "triton.pid").write_text(f'{{"pid": {bystander.pid}, "started": 1.5}}')
    options = {"checkpoint": "unused", "model_repository": repository(one=MODEL), "models": ["one"]}
    async with embedded_triton(tmp_path / "run", **options):
        assert bystander.returncode is None
    bystander.kill()
    await bystander.wait()


DYING_MODEL = """
import os

class TritonPythonModel:
    def execute(self, requests):
        os._exit(1)
"""
PROMPT_ENCODER_CONFIG = """
backend: "python"
max_batch_size: 0
input [
  { name: "prompt" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "negative_prompt" data_type: TYPE_STRING dims: [ 1 ] }
]
output [ { name: "context" data_type: TYPE_UINT8 dims: [ -1 ] } ]
instance_group [ { kind: KIND_AUTO count: 1 } ]
"""


async def test_a_model_whose_process_dies_is_unavailable_though_the_server_is_ready(
    repository: Repository, tmp_path: Path
) -> None:
    """The call during which it dies, and each one after it, says that the model must be loaded again."""
    models = repository(prompt_encoder=DYING_MODEL)
    (models / "prompt_encoder" / "config.pbtxt").write_text(PROMPT_ENCODER_CONFIG)
    options = {"checkpoint": "unused", "model_repository": models, "models": ["prompt_encoder"]}
    async with embedded_triton(tmp_path / "run", **options) as server:
        backend = TritonBackend(InferenceServerClient(server.grpc_address), CAPABILITIES, instances=1)
        for _ in range(2):
            with pytest.raises(BackendUnavailable, match="its process has died"):
                await backend.encode_prompt("a", "b")
        await backend.close()
