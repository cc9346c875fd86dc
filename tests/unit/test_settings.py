"""Settings: where a server may listen, what the environment can say, and how bad values are named."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from longtake_facade.settings import Settings


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the environment nor a file where the tests run has a say."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LONGTAKE_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_word(host: str) -> None:
    """In every form."""
    assert Settings(host=host).host == host


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.0.7", "fe80::1", "8.8.8.8", "example.org", "localhost.example.org", ""]
)
def test_listening_beyond_loopback_has_to_be_said(host: str) -> None:
    """The refusal names the host and both ways out; saying so is enough."""
    with pytest.raises(ValidationError, match="--insecure-no-auth") as caught:
        Settings(host=host)
    assert f"host {host} is reachable" in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
    assert Settings(host=host, insecure_no_auth=True).host == host


def test_the_environment_is_read_and_arguments_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting has a LONGTAKE_ name."""
    values = {
        "HOST": "::1",
        "PORT": "9000",
        "DATA": "kept",
        "DATABASE": "sqlite:///other.db",
        "TRITON": "triton:8001",
        "MAX_RUNNING": "7",
        "START_TIMEOUT": "2.5",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"LONGTAKE_{name}", value)
    settings = Settings(port=9001)
    assert (settings.host, settings.port, settings.data) == ("::1", 9001, Path("kept"))
    assert (settings.triton, settings.max_running, settings.start_timeout) == ("triton:8001", 7, 2.5)
    assert settings.database_url == "sqlite:///other.db"


def test_lists_in_the_environment_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces around them and empty ones do not count; arguments are lists already."""
    monkeypatch.setenv("LONGTAKE_ALLOW_HOST", "video.example, Other.example,")
    monkeypatch.setenv("LONGTAKE_CORS_ORIGIN", "https://page.example")
    settings = Settings()
    assert settings.allow_host == ("video.example", "Other.example")
    assert settings.cors_origin == ("https://page.example",)
    assert Settings(allow_host=["one.example"]).allow_host == ("one.example",)
    monkeypatch.setenv("LONGTAKE_ALLOW_HOST", "")
    assert Settings().allow_host == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "eighty"),
        ("port", "65536"),
        ("port", "-1"),
        ("instances", "0"),
        ("max_running", "0"),
        ("start_timeout", "0"),
        ("start_timeout", "nan"),
        ("insecure_no_auth", "perhaps"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is started."""
    monkeypatch.setenv(f"LONGTAKE_{name.upper()}", value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert [error["loc"] for error in caught.value.errors()] == [(name,)]


def test_settings_do_not_change() -> None:
    """They are read once."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1


def test_the_database_is_a_file_of_the_data_folder(tmp_path: Path) -> None:
    """By its absolute path, wherever the server is started."""
    assert Settings(data=tmp_path).database_url == f"sqlite:///{tmp_path / 'longtake.db'}"
    assert Settings(data="here").database_url == f"sqlite:///{tmp_path / 'here' / 'longtake.db'}"


def test_requests_may_name_loopback_the_host_itself_and_what_was_allowed() -> None:
    """In lower case, and an IPv6 address as a Host header writes it."""
    assert Settings().hosts == {"localhost", "127.0.0.1", "[::1]"}
    other = Settings(host="FE80::7", insecure_no_auth=True, allow_host=["Video.Example"])
    assert other.hosts == {"localhost", "127.0.0.1", "[::1]", "[fe80::7]", "video.example"}
