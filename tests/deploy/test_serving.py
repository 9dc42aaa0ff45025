"""What the serve command refuses before anything is started."""

import socket

import pytest

from flows.__main__ import USER_ERROR, main


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Return a function that starts a server in vain and returns what is said."""
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)

    def told(*arguments: str) -> str:
        assert main(["serve", "--results", str(tmp_path / "results"), *arguments]) == USER_ERROR
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert "Traceback" not in err
        assert not (tmp_path / "results").exists()
        return err

    return told


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104
def test_open_address_needs_a_password(refused, host):
    """An address that others reach is refused without a password; the sentence names both."""
    said = refused("--host", host)
    assert f"--host {host} lets everyone" in said
    assert "PREFECT_SERVER_API_AUTH_STRING=user:password" in said
    assert "PREFECT_API_AUTH_STRING=user:password" in said


@pytest.mark.parametrize("taken", [0, 1], ids=["server", "reports"])
def test_taken_port_is_explained(refused, taken):
    """The port that is taken is named, with the option that chooses another."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused("--port", str(port - taken))
    assert f"cannot listen on 127.0.0.1, port {port}" in said
    assert "--port" in said


def test_address_of_another_machine_is_explained(refused, monkeypatch):
    """With a password, an address that this machine does not have is still refused."""
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "user:password")
    assert "cannot listen on 192.0.2.1" in refused("--host", "192.0.2.1", "--port", "4991")


def test_unwritable_results_folder_is_explained(tmp_path, capsys):
    """A results folder that cannot be made is named."""
    (tmp_path / "file").write_text("")
    arguments = ["serve", "--port", "4993", "--results", str(tmp_path / "file/results")]
    assert main(arguments) == USER_ERROR
    assert "cannot write to the results folder" in capsys.readouterr().err
