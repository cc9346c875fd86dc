"""A real Triton server on this machine, from the wheel ``nvidia-pytriton``: started, watched and stopped.

The wheel's files are laid out as Triton wants them in a scratch folder, which also holds the server's log and its pid
file. One server a folder: a lock keeps a second one away, and what a killed process left behind (its server, its
shared memory) is removed at the next start. Nothing listens on anything but the loopback address.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import re
import shutil
import signal
import socket
import sys
import sysconfig
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import psutil

from longtake_stages import contract

_LOOPBACK: Final = "127.0.0.1"
_POLL_SECONDS: Final = 0.1
_TAIL_LINES: Final = 40
_LINE_CHARACTERS: Final = 500
_SHM_FOLDER: Final = Path("/dev/shm")  # noqa: S108  where Linux keeps POSIX shared memory
_SHM_START_BYTES: Final = 16 << 20
_SHM_GROWTH_BYTES: Final = 16 << 20

# Runs in the child before the server: without this, a server whose parent is killed goes on for ever. The parent may
# be gone before the signal is asked for, hence the comparison. 1 is PR_SET_PDEATHSIG of prctl(2).
_LAUNCHER: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedTritonError(Exception):
    """The server did not start, or died. The text is for the operator: it quotes the server's log."""


@dataclass(frozen=True)
class EmbeddedTriton:
    """A running server."""

    grpc_address: str
    """``host:port``."""
    http_address: str
    metrics_url: str
    log_path: Path
    pid: int
    shared_memory_prefix: str
    """How the names of the server's regions in ``/dev/shm`` begin; they grow, and are gone with the server."""
    _process: asyncio.subprocess.Process

    async def died(self) -> str:
        """Wait until the server has ended; return how, with the end of its log. To be cancelled when it is stopped."""
        code = await self._process.wait()
        return f"the embedded Triton server ended with status {code}\n{self.log_tail()}"

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        """The last ``lines`` lines of the server's log."""
        return _tail(self.log_path, lines)


class _PidRecord(msgspec.Struct, frozen=True):
    """Which process the server was: a pid alone may be another's by now."""

    pid: int
    started: float


@dataclass(frozen=True)
class _Folder:
    """What lies where in the scratch folder."""

    root: Path

    @property
    def backends(self) -> Path:
        return self.root / "backends"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def log(self) -> Path:
        return self.root / "triton.log"

    @property
    def pid(self) -> Path:
        return self.root / "triton.pid"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def shm_prefix(self) -> str:
        """Of the server's shared memory regions: the same whenever this folder is used."""
        return f"longtake-{hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()[:12]}-"


@dataclass(frozen=True)
class _Ports:
    grpc: int
    http: int
    metrics: int


@contextlib.asynccontextmanager
async def embedded_triton(
    folder: Path,
    *,
    checkpoint: str | None = None,
    instances: int | Mapping[str, int] = 1,
    model_repository: Path | None = None,
    models: Collection[str] = contract.MODELS,
    start_timeout: float = 180.0,
    stop_timeout: float = 10.0,
) -> AsyncIterator[EmbeddedTriton]:
    """Run a Triton server while the context is open.

    Args:
        folder: scratch folder of this server, made if missing.
        checkpoint: a diffusers folder or a hub id; None: the tiny one, which comes with Longtake.
        instances: of every model on every device, or by model name (1 where it is not named).
        model_repository: None: the source checkout's, else the one installed beside the interpreter.
        models: the names that must be ready.
        start_timeout: seconds until a server that is not ready counts as failed.
        stop_timeout: seconds the server has to stop before it is killed.

    Raises:
        EmbeddedTritonError: what is missing, or the end of the log of a server that did not become ready.
    """
    place = _Folder(folder)
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    with _locked(place.lock):
        await asyncio.to_thread(_remove_leftovers, place)
        served = checkpoint or str(_default_checkpoint())
        await asyncio.to_thread(_lay_out, place, model_repository or _default_repository(), instances)
        ports = _free_ports()
        process = await _launch(place, ports, _environment(served, instances))
        server = EmbeddedTriton(
            grpc_address=f"{_LOOPBACK}:{ports.grpc}",
            http_address=f"{_LOOPBACK}:{ports.http}",
            metrics_url=f"http://{_LOOPBACK}:{ports.metrics}/metrics",
            log_path=place.log,
            pid=process.pid,
            shared_memory_prefix=place.shm_prefix,
            _process=process,
        )
        try:
            place.pid.write_bytes(msgspec.json.encode(_PidRecord(process.pid, _start_time(process.pid))))
            await _until_ready(server, models, start_timeout)
            yield server
        finally:
            await _stop(process, stop_timeout)
            await asyncio.to_thread(_remove_leftovers, place)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise EmbeddedTritonError(f"another server uses the folder {path.parent}") from error
        yield


def _remove_leftovers(place: _Folder) -> None:
    """End the server that the pid file names, if it still is that one, and remove its shared memory."""
    with contextlib.suppress(FileNotFoundError):
        record = msgspec.json.decode(place.pid.read_bytes(), type=_PidRecord)
        if psutil.pid_exists(record.pid) and _start_time(record.pid) == record.started:
            _kill_group(record.pid)
        place.pid.unlink()
    for region in _SHM_FOLDER.glob(f"{place.shm_prefix}*"):
        region.unlink(missing_ok=True)


def _start_time(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return -1.0


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _default_checkpoint() -> Path:
    shipped = [root / "checkpoints" / "tiny-ltx2" for root in (_source_root(), _shared())]
    for folder in shipped:
        if (folder / "longtake.json").is_file():
            return folder
    raise EmbeddedTritonError(f"there is no checkpoint in {shipped[0]} or {shipped[1]}: name one")


def _default_repository() -> Path:
    for repository in (_source_root() / "model_repository", _shared() / "model_repository"):
        if repository.is_dir():
            return repository
    raise EmbeddedTritonError(f"there is no model repository in {_source_root()} or {_shared()}")


def _source_root() -> Path:
    return Path(__file__).resolve().parents[2]


def _shared() -> Path:
    return Path(sys.prefix) / "share" / "longtake"


def _lay_out(place: _Folder, repository: Path, instances: int | Mapping[str, int]) -> None:
    """Copy the Python backend with this interpreter's stub, and the models with their instance counts."""
    for old in (place.backends, place.models):
        shutil.rmtree(old, ignore_errors=True)
    wheel = _wheel_folder()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = wheel / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise EmbeddedTritonError(f"the wheel nvidia-pytriton has no Python backend for Python {version}")
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(wheel / "backends", place.backends, ignore=ignored)
    shutil.copy2(stub, place.backends / "python")
    shutil.copytree(repository, place.models, ignore=ignored)
    for config in sorted(place.models.glob("*/config.pbtxt")):
        (config.parent / "1").mkdir(exist_ok=True)
        count = _count(instances, config.parent.name)
        config.write_text(re.sub(r"\bcount: \d+", f"count: {count}", config.read_text()))


def _count(instances: int | Mapping[str, int], model: str) -> int:
    if model == contract.CAPABILITIES:
        return 1
    count = instances if isinstance(instances, int) else instances.get(model, 1)
    if count < 1:
        raise EmbeddedTritonError(f"{model} must have at least one instance, not {count}")
    return count


def _wheel_folder() -> Path:
    # pytriton itself is not imported: its import starts services of its own.
    try:
        found = importlib.metadata.distribution("nvidia-pytriton").locate_file("pytriton/tritonserver")
    except importlib.metadata.PackageNotFoundError as error:
        raise EmbeddedTritonError(
            "the embedded server needs the extra longtake[embedded]; or name a Triton server's address"
        ) from error
    return Path(str(found))


def _environment(checkpoint: str, instances: int | Mapping[str, int]) -> dict[str, str]:
    wheel = _wheel_folder()
    libraries = [_libpython_folder(), str(wheel.parents[1] / "nvidia_pytriton.libs")]
    if inherited := os.environ.get("LD_LIBRARY_PATH"):
        libraries.append(inherited)
    return {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        # The stub finds its interpreter, and with it the installed packages, through the first python on the path.
        "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", os.defpath)]),
        "LONGTAKE_CHECKPOINT": checkpoint,
        # Denoisers run side by side; without this each would start a thread a core.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(_threads(instances)),
    }


def _threads(instances: int | Mapping[str, int]) -> int:
    return max(1, len(os.sched_getaffinity(0)) // _count(instances, contract.DENOISER))


def _libpython_folder() -> str:
    """Where the shared libpython of this very interpreter lies; the stub is linked to it."""
    folder, name = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    if not (folder and name and ".so" in name and (Path(folder) / name).is_file()):
        raise EmbeddedTritonError(
            "the embedded server needs a Python with a shared libpython (Debian: the package "
            f"libpython3.{sys.version_info.minor}; pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared)"
        )
    return str(folder)


def _free_ports() -> _Ports:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind((_LOOPBACK, 0))
        return _Ports(*(each.getsockname()[1] for each in sockets))


async def _launch(place: _Folder, ports: _Ports, environment: dict[str, str]) -> asyncio.subprocess.Process:
    shared_memory = {
        "shm-region-prefix-name": place.shm_prefix,
        "shm-default-byte-size": _SHM_START_BYTES,
        "shm-growth-byte-size": _SHM_GROWTH_BYTES,
    }
    arguments = [
        f"--model-repository={place.models}",
        f"--backend-directory={place.backends}",
        f"--grpc-address={_LOOPBACK}",
        f"--grpc-port={ports.grpc}",
        f"--http-address={_LOOPBACK}",
        f"--http-port={ports.http}",
        f"--metrics-address={_LOOPBACK}",
        f"--metrics-port={ports.metrics}",
        # So that a model whose process has died can be loaded again.
        "--model-control-mode=explicit",
        "--load-model=*",
        "--exit-timeout-secs=5",
        *(f"--backend-config=python,{key}={value}" for key, value in shared_memory.items()),
    ]
    executable = str(_wheel_folder() / "bin" / "tritonserver")
    with place.log.open("wb") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-c", _LAUNCHER, str(os.getpid()), executable, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # a terminal's Ctrl-C is for us, and its stubs are found by the group
        )


async def _until_ready(server: EmbeddedTriton, models: Collection[str], start_timeout: float) -> None:
    missing = list(models)
    try:
        async with asyncio.timeout(start_timeout), aiohttp.ClientSession() as session:
            while missing := await _missing(session, server, models):
                if server._process.returncode is not None:
                    raise EmbeddedTritonError(await server.died())
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        raise EmbeddedTritonError(
            f"not ready after {start_timeout:g} s: {', '.join(missing)}\n{server.log_tail()}"
        ) from error


async def _missing(session: aiohttp.ClientSession, server: EmbeddedTriton, models: Collection[str]) -> list[str]:
    """The models that are not ready. The list is asked, not only readiness: a port may be another server's by now."""
    try:
        async with session.post(f"http://{server.http_address}/v2/repository/index") as answer:
            if answer.status != 200:
                return list(models)
            index = msgspec.json.decode(await answer.read())
    except aiohttp.ClientError:
        return list(models)
    ready = {entry["name"] for entry in index if entry.get("state") == "READY"}
    return [name for name in models if name not in ready]


async def _stop(process: asyncio.subprocess.Process, stop_timeout: float) -> None:
    """Ask the server to stop, then kill what is left of its group, also where the wait itself is cancelled."""
    try:
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(stop_timeout):
                    await process.wait()
    finally:
        _kill_group(process.pid)
    await process.wait()


def _tail(path: Path, lines: int) -> str:
    """The log's last lines, and before them the errors further up: tables of options may follow an error."""
    log = [line[:_LINE_CHARACTERS] for line in path.read_text(errors="replace").splitlines()]
    errors = [line for line in log[:-lines] if re.match(r"E\d{4} ", line)]
    return "\n".join([*errors[-lines:], *log[-lines:]])
