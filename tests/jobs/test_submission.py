"""What is checked before a run is submitted, and what is then sent."""

import io
import json
import socket
import subprocess
import threading
import zipfile

import pytest
import requests
from job_server import JobServer
from ray.job_submission import JobSubmissionClient

from annotate.cli.app import app, guarded
from annotate.errors import ConfigError
from annotate.jobs import find_job, list_jobs, submission, submit
from annotate.jobs.server import connect, server_address

KEY_IN_URL = "s3://AKIA:secret@bucket/out"  # pragma: allowlist secret


@pytest.fixture
def server(monkeypatch):
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with JobServer() as running:
        yield running


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pipelines" / "my run; rm -rf x.py"
    path.parent.mkdir()
    path.write_text("import helper\n")
    path.with_name("helper.py").write_text("")
    return path


def command_line(*arguments):
    return guarded(app, [str(argument) for argument in arguments])


def test_the_folder_goes_with_a_command_that_a_shell_can_not_misread(server, file, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    code = command_line(
        "submit", file, "--address", server.address, "--workdir", "s3://bucket/out", "--set", "corpus=s3://b/$(id)/*",
        "--limit", "10", "--share", "--env", "AWS_ENDPOINT_URL=http://store:9000", "--env", "TOKENIZERS_PARALLELISM=0",
    )  # fmt: skip
    out = capsys.readouterr().out
    assert code == 0
    [job] = server.submitted
    assert job["entrypoint"] == (
        "COLUMNS=100 python -m annotate run 'my run; rm -rf x.py' --workdir s3://bucket/out "
        "--set 'corpus=s3://b/$(id)/*' --limit 10 --share"
    )
    assert job["runtime_env"]["env_vars"] == {
        "MALLOC_ARENA_MAX": "2",
        "POLARS_MAX_THREADS": "1",
        "AWS_ENDPOINT_URL": "http://store:9000",
        "TOKENIZERS_PARALLELISM": "0",
    }
    [(name, package)] = server.packages.items()
    assert job["runtime_env"]["working_dir"] == f"gcs://{name}"
    assert zipfile.ZipFile(io.BytesIO(package)).namelist() == ["helper.py", "my run; rm -rf x.py"]
    assert job["submission_id"].startswith("my-run-rm-rf-x-") and job["submission_id"] in out
    assert out.count(f"Ray {server.ray}, Python {server.python}") == 2, "both sides are shown"
    assert "annotate status s3://bucket/out" in out


def test_the_job_is_told_the_commit_that_its_folder_is_at(server, file):
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.com", "-C", file.parent]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    submit(file, "s3://b/out", address=server.address)
    told = json.loads(server.submitted[0]["runtime_env"]["env_vars"]["ANNOTATE_COMMIT"])
    assert len(told["commit"]) == 40 and told["changed"] is False


def test_an_unchanged_folder_is_uploaded_once(server, file):
    submitted = [submit(file, "s3://b/out", address=server.address) for _ in range(2)]
    assert len(server.packages) == 1 and len({job.job for job in submitted}) == 2
    assert [job.id for job in list_jobs(server.address)] == [job.job for job in submitted]
    found = find_job(submitted[0].job, address=server.address)
    assert (found.state, found.pipeline, found.workdir) == ("succeeded", file.name, "s3://b/out")
    with pytest.raises(ConfigError, match="no job 'other'"):
        find_job("other", address=server.address)


def test_a_head_that_has_just_started_is_waited_for(server, file, monkeypatch):
    server.busy = 2
    monkeypatch.setattr(submission.time, "sleep", lambda seconds: None)
    job = submit(file, "s3://b/out", address=server.address).job
    assert [sent["submission_id"] for sent in server.submitted] == [job]
    server.busy = 1
    monkeypatch.setattr(submission, "_STARTING_SECONDS", 0.0)
    with pytest.raises(ConfigError, match=r"refused the job.*No available agent"):
        submit(file, "s3://b/out", address=server.address)


def test_a_connection_that_was_cut_is_no_refusal(server, file, monkeypatch):
    def cut(*args, **kwargs):
        raise requests.exceptions.ConnectionError("Connection aborted.")

    monkeypatch.setattr(JobSubmissionClient, "submit_job", cut)
    with pytest.raises(ConfigError, match="gave no answer to the job my-run") as caught:
        submit(file, "s3://b/out", address=server.address)
    assert "may have been started" in caught.value.hint


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"ray": "2.40.0"}, "another Ray than this machine. Here: Ray .*; there: Ray 2.40.0, Python 3"),
        ({"python": "3.8.10"}, "another Python .*there: Ray .*, Python 3.8.10"),
        ({"ray": "2.40.0", "python": "3.8.10"}, "another Ray and another Python"),
    ],
)
def test_other_versions_are_refused_and_both_sides_shown(server, file, said, message):
    for name, value in said.items():
        setattr(server, name, value)
    with pytest.raises(ConfigError, match=message):
        submit(file, "s3://b/out", address=server.address)
    assert not server.packages and not server.submitted


@pytest.mark.parametrize(
    ("workdir", "more", "message"),
    [
        ("out", {}, "'out' is relative"),
        (KEY_IN_URL, {}, "the work directory is a URL with a credential"),
        (
            "s3://b/out",
            {"settings": {"corpus": "https://host/c?sig=abc"}},
            "parameter corpus is a URL with a credential",
        ),
        (
            "s3://b/out",
            {"env": {"HTTPS_PROXY": KEY_IN_URL}},
            "variable HTTPS_PROXY is a URL with a credential",
        ),
        ("s3://b/out", {"arguments": [f"--set=a={KEY_IN_URL}"]}, "an argument is a URL with a credential"),
        *(
            ("s3://b/out", {"env": {name: "x"}}, f"{name} looks like a credential")
            for name in (
                "AWS_SECRET_ACCESS_KEY",
                "AWS_ACCESS_KEY_ID",
                "AWS_SESSION_TOKEN",
                "AZURE_STORAGE_ACCOUNT_KEY",
                "GOOGLE_SERVICE_ACCOUNT_KEY",
                "HF_TOKEN",
                "RAY_AUTH_TOKEN",
                "db_password",
            )
        ),
    ],
)
def test_what_would_be_lost_or_shown_is_refused_before_anything_is_sent(server, file, workdir, more, message):
    with pytest.raises(ConfigError, match=message) as refused:
        submit(file, workdir, address=server.address, **more)
    assert "secret" not in refused.value.message and refused.value.hint
    assert not server.packages and not server.submitted


def test_a_server_that_speaks_something_else_is_no_job_server(file):
    """As the port of Ray's GCS, 6379, does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x00\x00\x18\x04 of another protocol\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(ConfigError, match="is no job server of Ray"):
            submit(file, "s3://b/out", address=f"http://127.0.0.1:{listening.getsockname()[1]}")


def test_a_head_without_annotate_is_told_from_other_failures(server, file, capsys):
    job = submit(file, "s3://b/out", address=server.address).job
    server.ended = {"status": "FAILED", "driver_exit_code": 1, "message": "exit code 1\nNo module named annotate"}
    assert command_line("jobs", "status", job, "--address", server.address) == 0
    out = capsys.readouterr().out
    assert f"{job}: failed, exit code 1" in out and "annotate is not installed" in out
    server.ended = {"status": "FAILED", "driver_exit_code": 1, "message": "exit code 1\n\x1b[2Jother"}
    command_line("jobs", "status", job, "--address", server.address)
    out = capsys.readouterr().out
    assert "not installed" not in out and "\x1b" not in out


def test_a_file_that_is_no_pipeline_is_refused(server, file, capsys):
    file.write_text("def pipeline(:\n")
    with pytest.raises(ConfigError, match=r"rm -rf x\.py, line 1"):
        submit(file, "s3://b/out", address=server.address)
    assert command_line("submit", "gone.py", "--address", server.address, "--workdir", "s3://b/out") == 2
    assert "no such pipeline file: gone.py" in capsys.readouterr().err


def test_the_given_address_wins_over_the_variables_of_ray(server, file, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    submit(file, "s3://b/out", address=server.address)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", server.address)
    assert command_line("jobs", "list") == 0 and len(server.submitted) == 1


@pytest.mark.parametrize("address", ["auto", "ray://head:10001", "head", "", "ftp://head:1"])
def test_an_address_of_something_else_is_refused(address):
    with pytest.raises(ConfigError, match="is not the address of a job server") as refused:
        server_address(address)
    assert "http://HEAD:8265" in refused.value.hint
    assert ("Ray Client" in refused.value.hint) == address.startswith("ray:")


def test_an_address_may_lack_its_scheme():
    assert server_address("head:8265") == "http://head:8265" == server_address("http://head:8265/")


def test_who_does_not_answer_is_told_from_who_wants_a_token(server, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConfigError, match=r"nothing answers at http://127\.0\.0\.1:"):
        connect(f"http://me:hidden@127.0.0.1:{port}")  # pragma: allowlist secret
    server.token = "a-token"
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ConfigError, match="wants a token") as refused:
        connect(server.address)
    assert "RAY_AUTH_TOKEN" in refused.value.hint
    server.token, server.ray = None, None
    with pytest.raises(ConfigError, match="does not answer as one of Ray"):
        connect(server.address)
