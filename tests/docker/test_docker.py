"""What is in docker/: linted and checked against the schemas of those who run it. Nothing here
starts a container; docker/README.md says what was run where."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest

from fhir_server.config import SettingsError, read
from fhir_server.store.opening import bank_settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
COMPOSE = ("compose.yaml", "compose.cluster.yaml")
Json = dict[str, Any]


def needed(*names: str) -> None:
    """Skips without these packages; under CI that is a failure."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            message = f"no {name}: install the dev extra"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)


# --- Dockerfile -------------------------------------------------------------------------


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        needed("hadolint")
    return subprocess.run([program, path], capture_output=True, text=True, check=False)


def test_the_dockerfile_is_linted(tmp_path: Path) -> None:
    done = hadolint(DOCKERFILE)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "Dockerfile"
    wrong.write_text("FROM python\nRUN cd /x && sudo pip install flask\n")
    assert hadolint(wrong).returncode == 1


def instructions() -> list[tuple[str, str]]:
    """(instruction, the rest), continued lines joined."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text())
    lines = (line.partition(" ") for line in text.splitlines() if line and line[0] != "#")
    return [(name, rest) for name, _, rest in lines]


def test_the_image_is_small_and_not_of_root() -> None:
    stages = [n for n, (name, _) in enumerate(instructions()) if name == "FROM"]
    last = dict(instructions()[stages[-1] :])
    assert len(stages) == 2 and last["USER"] == "10001:10001"
    assert "health" in last["HEALTHCHECK"] and last["VOLUME"] == "/data"
    assert all("-slim" in rest for name, rest in instructions() if name == "FROM")
    for name, rest in instructions():
        if "pip install" in rest:
            assert "--require-hashes" in rest or "--no-deps" in rest, rest
        assert name != "ADD"


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().split()
    taken = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        word
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for word in rest.split()[:-1]
    }
    assert copied == taken and ignored[0] == "*"
    assert all((ROOT / name).exists() for name in copied)


def pinned(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\\n]+)", text, re.MULTILINE))


def test_the_image_has_what_is_tested() -> None:
    """The same versions as the lock files that the tests run with, all by hash."""
    core, server, dev = pinned("core"), pinned("server"), pinned("dev")
    assert core.items() <= server.items()
    tested = core | dev
    assert {n: v for n, v in server.items() if tested.get(n) != v} == {}
    assert {"pymongo", "botocore", "elasticsearch"} <= server.keys()


@pytest.mark.slow
def test_an_installed_server_has_all_its_files(tmp_path: Path) -> None:
    """The image installs the distribution, not the working copy."""
    source = tmp_path / "source"
    source.mkdir()
    packages = ("fhir_server", "operations", "terminology")
    for name in packages:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source / name)
    needed("setuptools")
    if int(importlib.metadata.version("setuptools").partition(".")[0]) < 77:
        pytest.skip("setuptools is older than what builds the project")
    command = [sys.executable, "-c", "import setuptools.build_meta as b; b.build_wheel('.')"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = source.glob("*.whl")
    had = {
        str(path.relative_to(ROOT))
        for name in packages
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert had - set(zipfile.ZipFile(wheel).namelist()) == set()


# --- compose ----------------------------------------------------------------------------


def parsed(text: str) -> Any:
    needed("yaml")
    import yaml

    return yaml.safe_load(text)


def composed(name: str) -> Json:
    found: Json = parsed((DOCKER / name).read_text())
    return found


def schema() -> Json:
    """https://github.com/compose-spec/compose-spec, as check-jsonschema ships it."""
    needed("check_jsonschema")
    place = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    found: Json = json.loads(place.read_text())
    return found


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_files_follow_the_specification(name: str) -> None:
    validator = jsonschema.validators.validator_for(schema())(schema())
    file = composed(name)
    assert [e.message for e in validator.iter_errors(file)] == []
    wrong = deepcopy(file)
    wrong["services"]["vehr"]["healthcheck"] = {"tests": ["CMD", "x"]}
    assert list(validator.iter_errors(wrong))


@pytest.mark.parametrize("name", COMPOSE)
def test_what_compose_files_name_is_there(name: str) -> None:
    file = composed(name)
    for service in file["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            known = (DOCKER / source).exists() if source[0] == "." else source in file["volumes"]
            assert known, volume
        assert set(service.get("networks", ())) <= file.get("networks", {}).keys()
        assert set(service.get("secrets", ())) <= file.get("secrets", {}).keys()
        assert set(service.get("depends_on", ())) <= file["services"].keys()
        for other, condition in service.get("depends_on", {}).items():
            if condition["condition"] == "service_healthy" and other != "vehr":
                assert "healthcheck" in file["services"][other], other
        assert re.search(r":[\w.-]*\d[\w.-]*$", service["image"]), "a version, not latest"
        assert "no-new-privileges:true" in service["security_opt"]
        assert "privileged" not in service
    assert file["services"]["vehr"]["read_only"] and file["services"]["vehr"]["cap_drop"] == ["ALL"]


def filled(text: str, values: dict[str, str]) -> str:
    """https://github.com/compose-spec/compose-spec/blob/main/12-interpolation.md"""

    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2] or ""
        if values.get(name):
            return values[name]
        assert default.startswith(":-"), f"{name} is not in the example"
        return default[2:]

    return re.sub(r"(?<!\$)\$\{(\w+)(:[-?][^}]*)?\}", value, text)


@pytest.mark.parametrize("name", COMPOSE)
def test_the_server_takes_the_settings(name: str) -> None:
    example = (DOCKER / "cluster" / "cluster.env.example").read_text()
    given = dict(line.split("=", 1) for line in example.splitlines() if line and line[0] != "#")
    values = {key: value or "s3cret" for key, value in given.items()}
    service = parsed(filled((DOCKER / name).read_text(), values))["services"]["vehr"]
    settings = read(service["environment"])
    assert settings.on_mongodb is ("cluster" in name)
    if settings.on_mongodb:
        assert settings.blobs is not None and settings.blobs.endpoint == "http://minio:9000"
        assert settings.search and settings.proxies
        rights = (DOCKER / "cluster" / "mongo-init.js").read_text()
        for one in (settings, bank_settings(settings)):
            assert f'"{urlsplit(one.store).path[1:]}"' in rights
    with pytest.raises(SettingsError):
        read(service["environment"] | {"VEHR_STORES": "x"})


def test_passwords_are_asked_for() -> None:
    """None has a default, none is in a file."""
    text = (DOCKER / "compose.cluster.yaml").read_text()
    for name in re.findall(r"\$\{(\w*PASSWORD\w*)([^}]*)\}", text):
        assert name[1] == ":?", name
    example = (DOCKER / "cluster" / "cluster.env.example").read_text()
    assert re.findall(r"PASSWORD=(.+)", example) == []


def test_the_proxy_is_configured() -> None:
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("no caddy on this machine")
    place = DOCKER / "cluster" / "Caddyfile"
    command = [caddy, "validate", "--adapter", "caddyfile", "--config", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- Helm -------------------------------------------------------------------------------

CHART = DOCKER / "helm" / "vehr"
CLUSTERS = ("1.27", "1.30", "1.33")
CASES: dict[str, Json] = {
    "default": {},
    "sqlite with a claim": {"persistence": {"existingClaim": "mine"}},
    "mongodb": {"store": "mongodb", "existingSecret": "vehr"},
    "mongodb without scaling": {
        "store": "mongodb",
        "existingSecret": "vehr",
        "autoscaling": {"enabled": False},
        "replicas": 5,
        "persistence": {"existingClaim": "shared"},
    },
    "everything": {
        "store": "mongodb",
        "existingSecret": "vehr",
        "settings": {"VEHR_TIME_ZONE": "Europe/Kyiv", "VEHR_BLOBS": "s3://bucket/fhir"},
        "imagePullSecrets": [{"name": "registry"}],
        "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "tls"},
        "networkPolicy": {"enabled": True},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "x", "operator": "Exists"}],
        "podAnnotations": {"a": "b"},
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn"}},
        "persistence": {"storageClass": "nfs"},
    },
}


def rendered(values: Json) -> list[Json]:
    """By Helm's own engine."""
    needed("helm_python", "yaml")
    import helm_python
    import yaml

    with helm_python.Chart.load(CHART) as chart:
        texts = chart.render(values=values, name="test")
    made = [text for name, text in sorted(texts.items()) if name.endswith(".yaml")]
    documents = (one for text in made for one in yaml.safe_load_all(text))
    return [one for one in documents if isinstance(one, dict) and "kind" in one]


def kinds(values: Json) -> dict[str, Json]:
    return {one["kind"]: one for one in rendered(values)}


def pod(values: Json) -> Json:
    found = kinds(values)
    spec: Json = (found.get("StatefulSet") or found["Deployment"])["spec"]["template"]["spec"]
    return spec


def test_the_chart_is_linted() -> None:
    needed("helm_python")
    import helm_python

    found = helm_python.lint(CHART)
    assert not found["errors"]
    assert [m for m in found["messages"] if m["severity"] > 1] == [], "warnings"


@pytest.mark.parametrize("version", CLUSTERS)
@pytest.mark.parametrize("case", CASES)
def test_what_the_chart_makes_is_what_kubernetes_takes(case: str, version: str) -> None:
    needed("kubernetes_validate")
    import kubernetes_validate

    made = rendered(CASES[case])
    for one in made:
        kubernetes_validate.validate(one, version, strict=True)
    wrong = deepcopy(next(one for one in made if one["kind"] == "Service"))
    wrong["spec"]["ports"][0]["targetport"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_sqlite_is_one_pod_with_a_volume_of_its_own() -> None:
    found = kinds({})
    assert "Deployment" not in found and "HorizontalPodAutoscaler" not in found
    spec = found["StatefulSet"]["spec"]
    assert spec["replicas"] == 1
    assert spec["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOnce"]
    claimed = kinds(CASES["sqlite with a claim"])["StatefulSet"]["spec"]
    assert "volumeClaimTemplates" not in claimed
    volumes = claimed["template"]["spec"]["volumes"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "mine"}} in volumes


def test_mongodb_scales() -> None:
    found = kinds(CASES["mongodb"])
    assert "StatefulSet" not in found and "replicas" not in found["Deployment"]["spec"]
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "test-vehr"
    assert found["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    fixed = kinds(CASES["mongodb without scaling"])
    assert fixed["Deployment"]["spec"]["replicas"] == 5
    assert "HorizontalPodAutoscaler" not in fixed and "PersistentVolumeClaim" not in fixed


@pytest.mark.parametrize("case", CASES)
def test_pods_may_do_little(case: str) -> None:
    spec = pod(CASES[case])
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] and not spec["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] == "/health"
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    made = {volume["name"] for volume in spec["volumes"]} | (
        {"data"} if "StatefulSet" in kinds(CASES[case]) else set()
    )
    assert mounted <= made


@pytest.mark.parametrize("case", CASES)
def test_secrets_are_named_and_settings_known(case: str) -> None:
    found = kinds(CASES[case])
    assert "Secret" not in found
    secret = CASES[case].get("existingSecret")
    sources = pod(CASES[case])["containers"][0]["envFrom"]
    assert [s["secretRef"]["name"] for s in sources if "secretRef" in s] == (
        [secret] if secret else []
    )
    settings = read(found["ConfigMap"]["data"])
    assert settings.base_url == "https://vehr.example.org" and "test-vehr" in settings.hosts
    if "Ingress" in found:
        assert found["Ingress"]["spec"]["rules"][0]["host"] == "vehr.example.org"


@pytest.mark.parametrize(
    "values",
    [
        {"store": "mysql"},
        {"baseUrl": "vehr.example.org"},
        {"baseUrl": "https://vehr.example.org/fhir"},
        {"replica": 3},
        {"workers": 0},
        {"settings": {"PATH": "x"}},
        {"settings": {"VEHR_PAGE_SIZE": 5}},
        {"store": "mongodb"},
    ],
)
def test_values_that_make_no_sense_are_refused(values: Json) -> None:
    needed("helm_python")
    import helm_python

    with pytest.raises(helm_python.HelmError):
        rendered(values)
