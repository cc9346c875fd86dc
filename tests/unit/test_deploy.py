"""The images, the compose file and the wheel, as far as they can be judged without Docker and without a network."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml
from typer.main import get_command

from longtake_stages import contract
from longtake_stages.checkpoint import CHECKPOINT_VARIABLE

ROOT: Final = Path(__file__).parents[2]
TRITONS: Final = ("triton", "triton-cpu")
TINY: Final = "checkpoints/tiny-ltx2"
MEBIBYTE: Final = 1 << 20


def run_tool(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a tool of this environment; its output is the failure's message."""
    tool = Path(sys.executable).with_name(str(command[0]))
    result = subprocess.run([tool, *command[1:]], cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file with its anchors merged."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return content


@pytest.fixture(scope="module")
def dockerfile() -> str:
    """The Dockerfile with continued lines joined."""
    return (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")


def stage(dockerfile: str, name: str) -> str:
    """What the Dockerfile says of the stage ``name``."""
    found = re.search(rf"^FROM \S+ AS {name}$(.*?)(?=^FROM |\Z)", dockerfile, re.MULTILINE | re.DOTALL)
    assert found, f"there is no stage {name}"
    return found[1]


def test_the_dockerfile_has_no_lint() -> None:
    """Hadolint finds nothing, not even advice."""
    run_tool("hadolint", "Dockerfile")


def test_the_compose_file_follows_the_specification() -> None:
    """The published compose schema accepts the file."""
    run_tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


def test_compose_builds_targets_that_exist(compose: dict[str, Any], dockerfile: str) -> None:
    """Each service is built from a stage of the Dockerfile."""
    for service in compose["services"].values():
        assert stage(dockerfile, service["build"]["target"])


@pytest.mark.parametrize("target", ["triton", "facade"])
def test_images_run_as_nobody_in_particular(dockerfile: str, target: str) -> None:
    """The last user is a numeric one that is not root, so that an orchestrator can check it."""
    users = re.findall(r"^USER (\d+):(\d+)$", stage(dockerfile, target), re.MULTILINE)
    assert users
    assert users[-1][0] != "0"


def test_base_images_are_pinned(dockerfile: str) -> None:
    """Every base is a release by its full version, none of them older than Triton's fixes."""
    tags = dict(re.findall(r"^ARG (\w+)=(\S+)$", dockerfile, re.MULTILINE))
    bases = re.findall(r"^FROM (\S+) AS", dockerfile, re.MULTILINE)
    assert {base.partition(":")[2] for base in bases} == {"${TRITON_TAG}", "${PYTHON_TAG}"}
    assert re.fullmatch(r"\d+\.\d+\.\d+-slim-\w+", tags["PYTHON_TAG"])
    triton = re.fullmatch(r"(\d\d)\.(\d\d)-py3", tags["TRITON_TAG"])
    assert triton
    assert (int(triton[1]), int(triton[2])) >= (26, 7)


def test_what_the_image_copies_is_sent_to_the_builder(dockerfile: str) -> None:
    """`.dockerignore` lets through what the Dockerfile copies, which is there."""
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    sources = {source for line in copies for source in line.split()}
    assert sources <= {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert not [source for source in sources if not (ROOT / source).exists()]


def test_the_facade_is_published_on_loopback_alone(compose: dict[str, Any]) -> None:
    """Without tokens, no other machine may reach the port."""
    assert compose["services"]["facade"]["ports"] == ["127.0.0.1:8188:8188"]


@pytest.mark.parametrize("name", TRITONS)
def test_triton_can_be_reached_by_the_facade_alone(compose: dict[str, Any], name: str) -> None:
    """Triton has no authentication: it publishes nothing and is on no network with a way out."""
    service = compose["services"][name]
    assert "ports" not in service
    assert "network_mode" not in service
    assert [compose["networks"][network]["internal"] for network in service["networks"]] == [True]
    assert service["networks"]["models"]["aliases"] == ["triton"]


def test_only_the_facade_is_on_a_network_with_a_way_out(compose: dict[str, Any]) -> None:
    """An internal network publishes no port, so the facade is on a second one."""
    outward = [name for name, network in compose["networks"].items() if not network.get("internal")]
    members = [name for name, service in compose["services"].items() if {*service["networks"]} & {*outward}]
    assert members == ["facade"]


@pytest.mark.parametrize("name", TRITONS)
def test_models_and_weights_are_mounted_read_only(compose: dict[str, Any], name: str) -> None:
    """Whoever breaks into the server does not leave code behind in a model."""
    volumes = compose["services"][name]["volumes"]
    assert "./model_repository:/models:ro" in volumes
    assert all(volume.endswith(":ro") for volume in volumes)
    assert "--model-repository=/models" in (ROOT / "Dockerfile").read_text("utf-8")
    assert CHECKPOINT_VARIABLE in compose["services"][name]["environment"]


@pytest.mark.parametrize("name", TRITONS)
def test_triton_has_shared_memory_for_whole_clips(compose: dict[str, Any], name: str) -> None:
    """Docker's default of 64 MiB ends in a bus error."""
    default = re.fullmatch(r"\$\{\w+:-(\d+)gb\}", compose["services"][name]["shm_size"])
    assert default
    assert int(default[1]) * 1024 * MEBIBYTE >= 4 * (1920 * 1080 * 3 // 2) * 97


@pytest.mark.parametrize("name", [*TRITONS, "facade"])
def test_containers_have_no_privileges(compose: dict[str, Any], name: str) -> None:
    """No capability, no new privilege, nothing to write to but what is named."""
    service = compose["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["restart"] == "unless-stopped"
    assert "privileged" not in service


def test_the_facade_starts_when_triton_is_healthy(compose: dict[str, Any]) -> None:
    """Of the two variants, the one whose profile is on is waited for."""
    gates = compose["services"]["facade"]["depends_on"]
    assert gates == {name: {"condition": "service_healthy", "required": False} for name in TRITONS}
    assert all("v2/health/ready" in compose["services"][name]["healthcheck"]["test"][-1] for name in TRITONS)


def test_each_profile_is_a_whole_stack(compose: dict[str, Any]) -> None:
    """One Triton and the facade; the processor's variant asks for no GPU."""
    services = compose["services"]
    for profile, triton in (("gpu", "triton"), ("cpu", "triton-cpu")):
        assert {name for name, service in services.items() if profile in service["profiles"]} == {triton, "facade"}
    devices = services["triton"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]
    assert "deploy" not in services["triton-cpu"]
    assert {k: v for k, v in services["triton"].items() if k not in {"deploy", "profiles"}} == {
        k: v for k, v in services["triton-cpu"].items() if k != "profiles"
    }


def test_the_facades_command_is_one_the_command_line_accepts(compose: dict[str, Any]) -> None:
    """`longtake serve` knows every option that compose gives it, and their values."""
    from longtake_facade.serve import serve  # the other tests need nothing of the server

    name, *arguments = compose["services"]["facade"]["command"]
    app = typer.Typer()
    app.command(name)(serve)
    values = get_command(app).make_context(name, arguments).params
    assert values["port"] == 8188
    assert values["triton"] == "triton:8001"


def test_no_file_of_the_deployment_holds_a_secret() -> None:
    """Tokens come from the environment or a file on the host."""
    for file in (ROOT / "Dockerfile", ROOT / "docker-compose.yml", *(ROOT / "deploy").rglob("*.*")):
        assert not re.search(r"(?i)(password|secret|token|api_key)\s*[:=]\s*['\"]?\w", file.read_text("utf-8")), file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files in a wheel built from a copy of the sources, as `pip wheel` does."""
    folder = tmp_path_factory.mktemp("wheel")
    without = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("client", "facade", "stages", "model_repository"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=without)
    if (ROOT / TINY).is_dir():
        shutil.copytree(ROOT / TINY, folder / "source" / TINY)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index")
    run_tool("python", "-m", "pip", "wheel", *options, "--wheel-dir", folder, folder / "source")
    (built,) = folder.glob("longtake-*.whl")
    return zipfile.ZipFile(built).namelist()


def files_below(folder: Path) -> set[str]:
    """Relative paths of the files in ``folder``, compiled ones left out; none where there is no folder."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")
    return {file.relative_to(folder).as_posix() for file in files}


def installed_below(wheel: list[str], folder: str) -> set[str]:
    """Relative paths of the files that the wheel installs below ``share/longtake/<folder>``."""
    place = re.compile(rf"longtake-[^/]+\.data/data/share/longtake/{folder}/")
    return {place.sub("", name) for name in wheel if place.match(name)}


def test_the_wheel_holds_every_model(wheel: list[str]) -> None:
    """The installed models are the repository's, so that the embedded server runs outside a checkout."""
    installed = installed_below(wheel, "model_repository")
    assert installed == files_below(ROOT / "model_repository")
    for model in contract.MODELS:
        assert f"{model}/config.pbtxt" in installed
        assert any(name.startswith(f"{model}/1/") for name in installed), f"{model} has no version"


def test_the_wheel_holds_the_whole_tiny_checkpoint(wheel: list[str]) -> None:
    """Where this checkout has the tiny checkpoint, the wheel has all of it."""
    assert installed_below(wheel, TINY) == files_below(ROOT / TINY)


def test_the_wheel_holds_what_the_packages_need_besides_code(wheel: list[str]) -> None:
    """Types are marked as such, the page and the licence are there, tests and weights are not."""
    for package in ("longtake", "longtake_facade", "longtake_stages"):
        assert f"{package}/py.typed" in wheel
    page = (file for file in (ROOT / "facade/longtake_facade/static").rglob("*") if file.is_file())
    assert {file.relative_to(ROOT / "facade").as_posix() for file in page} <= {*wheel}
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
    roots = {name.partition("/")[0] for name in wheel}
    assert {root for root in roots if "." not in root} == {"longtake", "longtake_facade", "longtake_stages"}
