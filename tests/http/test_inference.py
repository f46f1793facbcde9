"""The Open Inference Protocol v2, as its specification has it (inference_rest.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fhir_server.http.inference import URLS
from operations.models.registry import SHIPPED
from tests.serving import Server, served

GOLDEN = json.loads((SHIPPED / "score2" / "golden.json").read_text())
REGIONS = {"low": 0, "moderate": 1, "high": 2, "very-high": 3}
INFER = "/v2/models/score2/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served("memory", tmp_path_factory.mktemp("v2"), open_=False) as one:
        one.user("nina", "nurse", "Practitioner/n")
        one.headers = one.bearer("system/Device.r")
        yield one


def request(rows: int = 1, **members: Any) -> dict[str, Any]:
    """An inference request of the first golden vectors of SCORE2."""
    vectors = [vector["inputs"] for vector in GOLDEN[:rows]]
    kinds = {"sex": "INT64", "region": "INT64", "smoker": "BOOL", "age": "FP32"}
    codes = {"male": 0, "female": 1, **REGIONS}

    def tensor(name: str) -> dict[str, Any]:
        data = [codes.get(v[name], v[name]) if type(v[name]) is str else v[name] for v in vectors]
        kind = kinds.get(name, "FP64")
        return {"name": name, "shape": [rows], "datatype": kind, "data": data}

    return {"inputs": [tensor(name) for name in vectors[0]], **members}


def send(server: Server, body: Any, url: str = INFER, **headers: str) -> tuple[int, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    whole = {"content-type": "application/json", **headers}
    answer = server.send("POST", url, content=content, headers=whole)
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, answer.json()


def test_health_is_told_to_everybody(server: Server) -> None:
    for name, expected in (("live", {"live": True}), ("ready", {"live": True, "ready": True})):
        answer = server.get(f"/v2/health/{name}", headers={"authorization": ""})
        assert (answer.status_code, answer.json()) == (200, expected)


def test_every_other_url_needs_a_token_of_a_system_client(server: Server) -> None:
    for url in URLS:
        if not url.operation:
            continue
        path = f"/v2/{url.pattern}".replace("{model}", "score2").replace("{version}", "1.0.0")
        content = json.dumps(request()).encode() if url.method == "POST" else None
        media = {"content-type": "application/json"} if content else {}
        for headers, status in (
            ({"authorization": ""}, 401),
            ({"authorization": "Bearer wrong"}, 401),
            (server.bearer("system/Observation.rs"), 403),
            (server.bearer("user/Device.r", user="nina"), 403),
            (server.bearer("patient/Device.r", patient="p"), 403),
            ({}, 200),
        ):
            options = {"headers": {**media, **headers}, "content": content}
            answer = server.send(url.method, path.rstrip("/"), **options)
            assert answer.status_code == status, (path, headers, answer.text)
            if status != 200:
                assert list(answer.json()) == ["error"]
                assert "score2" not in answer.text


def test_metadata(server: Server) -> None:
    about = server.get("/v2").json()
    assert about["name"] == "vehr" and about["extensions"] == [] and about["version"]
    told = server.get("/v2/models/score2").json()
    assert told == server.get("/v2/models/score2/versions/1.0.0").json()
    assert (told["name"], told["versions"]) == ("score2", ["1.0.0"])
    inputs = {one["name"]: (one["datatype"], one["shape"]) for one in told["inputs"]}
    assert inputs["sbp"] == ("FP64", [-1])
    assert inputs["smoker"][0] == "BOOL" and inputs["region"][0] == "INT64"
    assert told["outputs"] == [{"name": "cvd-10y", "datatype": "FP64", "shape": [-1]}]
    ready = server.get("/v2/models/score2/ready")
    assert ready.json() == {"name": "score2", "ready": True}
    assert server.send("HEAD", "/v2/models/score2").content == b""


def test_the_published_values_come_out(server: Server) -> None:
    rows = len(GOLDEN)
    status, answer = send(server, request(rows, id="42", outputs=[{"name": "cvd-10y"}]))
    assert status == 200, answer
    assert (answer["model_name"], answer["model_version"], answer["id"]) == (
        "score2",
        "1.0.0",
        "42",
    )
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("cvd-10y", "FP64", [rows])
    for got, vector in zip(output["data"], GOLDEN, strict=True):
        assert abs(got - vector["expected"]["cvd-10y"]) <= vector["tolerance"]
    one = request()
    for tensor in one["inputs"]:
        tensor["shape"], tensor["data"] = [1, 1], [tensor["data"]]
    status, nested = send(server, one, "/v2/models/score2/versions/1.0.0/infer")
    assert status == 200 and "id" not in nested
    assert nested["outputs"][0]["data"] == output["data"][:1]


def changed(tensor_name: str, /, **members: Any) -> dict[str, Any]:
    body = request()
    (tensor,) = (one for one in body["inputs"] if one["name"] == tensor_name)
    tensor.update(members)
    return body


WRONG: list[tuple[Any, int, str]] = [
    (b"{", 400, "the request"),
    (b'{"id": 1, "id": 2}', 400, "the request"),
    ([], 400, "JSON object"),
    ({}, 400, "inputs"),
    (request(id=7), 400, "id"),
    (request(more=1), 400, "unknown member 'more'"),
    (request(parameters={"binary_data_output": True}), 400, "'binary_data_output'"),
    (request(parameters=[]), 400, "parameters"),
    (request(outputs=[{"name": "x"}]), 400, "none of cvd-10y"),
    ({"inputs": request()["inputs"][1:]}, 400, "missing inputs: sex"),
    ({"inputs": [*request()["inputs"], request()["inputs"][0]]}, 400, "given twice"),
    (changed("sbp", name="weight"), 400, "none of"),
    (changed("sbp", shape=[2]), 400, "no tensor of the shape"),
    (changed("sbp", shape=[2], data=[120, 130]), 400, "differ"),
    (changed("sbp", shape=["1"]), 400, "whole numbers"),
    (changed("sbp", shape=[1, 2], data=[1, 2]), 400, "[N, 1]"),
    (changed("sbp", shape=[100_000]), 400, "N from 1"),
    (changed("sbp", datatype="BYTES"), 400, "one of FP64, FP32, INT64, BOOL"),
    (changed("sbp", datatype=["FP64"]), 400, "one of FP64"),
    (changed("sbp", datatype="INT64", data=[1.5]), 400, "no INT64"),
    (changed("sbp", datatype="FP32", data=[1e300]), 400, "no FP32"),
    (changed("sbp", data=["120"]), 400, "no FP64"),
    (changed("sbp", data=[True]), 400, "no FP64"),
    (changed("sbp", data=[1000]), 400, "not plausible (60 to 270)"),
    (changed("age", data=[20]), 400, "outside the population (40 to 89)"),
    (changed("smoker", datatype="FP64", data=[2]), 400, "0 or 1"),
    (changed("region", data=[9]), 400, "one of [0, 1, 2, 3]"),
    (changed("sbp", data=[[[[120]]]]), 400, "nested as the shape"),
    (changed("sbp", data=120), 400, "data is an array"),
]


@pytest.mark.parametrize("body, status, text", WRONG)
def test_what_is_refused(server: Server, body: Any, status: int, text: str) -> None:
    got, answer = send(server, body)
    assert got == status and list(answer) == ["error"], answer
    assert text in answer["error"]


def test_urls_and_media_that_are_refused(server: Server) -> None:
    for method, url, status in (
        ("GET", "/v2/models/score9", 404),
        ("GET", "/v2/models/score2/versions/9.9.9", 404),
        ("GET", "/v2/models/score2%7C1.0.0", 400),
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/score2/infer", 405),
        ("DELETE", "/v2/models/score2", 405),
    ):
        answer = server.send(method, url)
        assert (answer.status_code, list(answer.json())) == (status, ["error"]), url
        if status == 405:
            assert answer.headers["allow"]
    assert send(server, request(), **{"content-type": "text/plain"})[0] == 415
    assert send(server, request(), **{"content-encoding": "gzip"})[0] == 415
    assert server.send("POST", INFER, content=b" " * 11_000_000).status_code == 413


def test_answers_do_not_depend_on_how_a_body_arrives(server: Server) -> None:
    content = json.dumps(request()).encode()

    async def pieces() -> Any:
        for start in range(0, len(content), 7):
            yield content[start : start + 7]

    media = {"content-type": "application/json", "prefer": "respond-async", "accept": "text/html"}
    answer = server.send("POST", INFER, content=pieces(), headers=media)
    assert answer.status_code == 200, answer.text
    assert answer.json() == send(server, request())[1]
