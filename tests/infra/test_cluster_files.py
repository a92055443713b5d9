"""The files for clusters: filled with values, they are what their readers take, and agree with the project."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
INFRA = REPOSITORY / "infra"
VALUES = tomllib.loads((INFRA / "values.toml").read_text("utf-8"))
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (REPOSITORY / "constraints.txt").read_text("utf-8"), re.MULTILINE))
BIN = Path(sys.executable).parent


def render(values, folder):
    return subprocess.run(
        [sys.executable, str(INFRA / "render.py"), str(values), str(folder)], capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """The files with the shipped values."""
    folder = tmp_path_factory.mktemp("infra") / "rendered"
    done = render(INFRA / "values.toml", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_all_templates_are_filled_and_nothing_is_left(rendered):
    assert {path.name for path in rendered.iterdir()} == {path.name for path in (INFRA / "templates").iterdir()}
    for path in rendered.iterdir():
        assert not re.search(r"@[a-z_]+@", path.read_text("utf-8")), path.name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('region = "us-east-1"\n', ""), "values that no template uses: region"),
        (lambda text: text + 'regoin = "x"\n', "values that no template uses: regoin"),
        (lambda text: text.replace("us-east-1", "$(reboot)"), "region is '$(reboot)'; only"),
        (lambda text: text.replace('"us-east-1"', "'a\"b'"), "only letters"),
    ],
)
def test_values_that_are_missing_unused_or_dangerous_are_refused(tmp_path, change, message):
    values = tmp_path / "values.toml"
    values.write_text(change((INFRA / "values.toml").read_text("utf-8")))
    done = render(values, tmp_path / "out")
    assert done.returncode == 1 and message in done.stderr and not (tmp_path / "out").exists()


def test_versions_are_those_that_the_project_is_tested_with():
    assert VALUES["ray_version"] == PINS["ray"]
    [python] = re.findall(r"^ARG PYTHON=(.+)$", (INFRA / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    about = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    assert about["requires-python"] == f">={python}" and VALUES["image"].endswith(f":{about['version']}")
    assert (REPOSITORY / "pipelines" / VALUES["pipeline"]).is_file()


def test_the_dockerfile_passes_its_linter_and_copies_what_there_is():
    path = INFRA / "Dockerfile"
    done = subprocess.run([str(BIN / "hadolint"), "--no-color", str(path)], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "", done.stdout
    text = path.read_text("utf-8")
    copied = {word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for word in line.split()}
    sent = {line[1:] for line in (INFRA / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == sent and all((REPOSITORY / name).exists() for name in copied)
    assert re.search(r"^USER [1-9]\d*$", text, re.MULTILINE), "containers don't run as root"


@pytest.mark.parametrize(("device", "code"), [("cpu", 0), ("cuda", 0), ("tpu", 2)])
def test_one_dockerfile_makes_both_images(device, code, tmp_path):
    """The shell of the step that installs, with a pip that tells what it is asked for."""
    step = re.search(r"^RUN (case .+?)\n\n", (INFRA / "Dockerfile").read_text("utf-8"), re.MULTILINE | re.DOTALL)[1]
    place = tmp_path / "bin"
    place.mkdir()
    (place / "python").write_text('#!/bin/bash\necho "$@"\n')
    (place / "python").chmod(0o755)
    script = step.replace("\\\n", " ")
    environment = {"PATH": f"{place}:{os.environ['PATH']}", "DEVICE": device}
    done = subprocess.run(["bash", "-eo", "pipefail", "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    if code == 0:
        assert ("whl/cpu" in done.stdout) == (device == "cpu")
        assert "-c constraints.txt .[minilm]" in done.stdout


def test_ray_takes_the_file_of_its_cluster_launcher(rendered):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((rendered / "cluster-launcher.yaml").read_text("utf-8"))
    validate_config(prepare_config(config))  # what `ray up` does first: Ray's own schema
    text = (rendered / "cluster-launcher.yaml").read_text("utf-8")
    assert "--dashboard-host=127.0.0.1" in text and "RAY_AUTH_MODE=token" in text
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        validate_config(prepare_config({**config, "max_wrokers": 1}))


@pytest.mark.parametrize("name", ["kuberay-cluster", "kuberay-job"])
def test_what_kuberay_gets_is_strictly_what_is_known_here(rendered, name):
    """A schema of our own: the custom resource's is not in any package. It allows only what we use."""
    [document] = yaml.safe_load_all((rendered / f"{name}.yaml").read_text("utf-8"))
    schema = json.loads((HERE / "kuberay.schema.json").read_text("utf-8"))
    checker = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{document['kind']}", "$defs": schema["$defs"]})
    assert [(list(error.path), error.message) for error in checker.iter_errors(document)] == []
    document["spec"]["headGroupSpecs"] = {}
    assert list(checker.iter_errors(document)), "an unknown field is found"


@pytest.mark.parametrize("name", ["kuberay-cluster", "kuberay-job"])
def test_pods_agree_with_each_other_and_hold_no_secret(rendered, name):
    document = yaml.safe_load((rendered / f"{name}.yaml").read_text("utf-8"))
    spec = document["spec"].get("rayClusterSpec", document["spec"])
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert spec["rayVersion"] == PINS["ray"] and spec["authOptions"] == {"mode": "token"}
    for group in groups:
        pod = group["template"]["spec"]
        [container] = pod["containers"]
        assert container["image"] == VALUES["image"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["envFrom"] == [{"secretRef": {"name": VALUES["store_secret"]}}]
        assert not any(re.search("SECRET|TOKEN|KEY|PASSW", item["name"]) for item in container["env"])
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        assert pod["securityContext"]["runAsNonRoot"]
    for group in spec["workerGroupSpecs"]:
        assert 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_run_of_a_job_is_one_that_the_command_line_takes(rendered):
    import shlex

    import click

    from annotate.cli.run import command

    [words] = [
        shlex.split(yaml.safe_load((rendered / "kuberay-job.yaml").read_text("utf-8"))["spec"]["entrypoint"]),
    ]
    assert words[:3] == ["annotate", "run", f"/pipelines/{VALUES['pipeline']}"]
    context = command.make_context("run", words[2:])
    assert isinstance(context, click.Context) and context.params["workdir"] == VALUES["workdir"]
    assert context.params["settings"] == (f"corpus={VALUES['corpus']}",)


def test_shells_can_read_the_slurm_script(rendered):
    done = subprocess.run([str(BIN / "shellcheck"), str(rendered / "annotate.sbatch")], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "", done.stdout


FAKE = """#!/bin/bash
echo "$(basename "$0") $* | ${RAY_ADDRESS:-} ${RAY_AUTH_MODE:-} $(printf %s "${RAY_AUTH_TOKEN:-}" | wc -c)" >> "$CALLS"
case "$(basename "$0") $*" in
  "scontrol show hostnames "*) printf 'n1\\nn2\\nn3\\n' ;;
  hostname*) echo "10.0.0.1 fe80::1" ;;
  "ray start "*) exec sleep 30 ;;
  "python -c import ray"*) echo 3 ;;
  "python -c import secrets"*) echo 0123456789abcdef ;;
  srun*) while [[ "$1" == --* ]]; do shift; done; "$@" ;;
  "annotate run "*) exit "$ENDS" ;;
esac
"""


@pytest.mark.parametrize("ends", [0, 5])
def test_the_slurm_script_starts_a_head_then_workers_then_a_run_and_ends_as_the_run(rendered, tmp_path, ends):
    """The script itself runs, on commands that tell how they were called."""
    place = tmp_path / "env" / "bin"
    place.mkdir(parents=True)
    for name in ("scontrol", "srun", "hostname", "ray", "annotate", "python"):
        (place / name).write_text(FAKE)
        (place / name).chmod(0o755)
    (place / "activate").write_text(f'export PATH="{place}:$PATH"\n')
    script = tmp_path / "run.sbatch"
    script.write_text((rendered / "annotate.sbatch").read_text().replace(VALUES["environment"], str(tmp_path / "env")))
    calls = tmp_path / "calls"
    environment = {
        **os.environ, "CALLS": str(calls), "ENDS": str(ends), "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_JOB_ID": "31234",
        "SLURM_CPUS_PER_TASK": "8",
    }  # fmt: skip
    done = subprocess.run([shutil.which("bash"), str(script)], env=environment, timeout=25)
    assert done.returncode == ends
    told = calls.read_text().splitlines()
    [head] = [line for line in told if line.startswith("ray start --head")]
    assert "--node-ip-address=10.0.0.1 --port=21234 --include-dashboard=false --num-cpus=8" in head
    assert head.endswith("|  token 16")
    [workers] = [line for line in told if line.startswith("srun --nodes=2 --ntasks=2 --exclude=n1")]
    assert "ray start --block --address=10.0.0.1:21234" in workers and workers.endswith("10.0.0.1:21234 token 16")
    [run] = [line for line in told if line.startswith("annotate run")]
    assert f"--workdir {VALUES['workdir']} --set corpus={VALUES['corpus']}" in run
    assert told.index(head) < told.index(run) and told.index(workers) < told.index(run)
