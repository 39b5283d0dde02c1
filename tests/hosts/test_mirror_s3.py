"""A mirror in an S3-compatible store: what is there is right, kept, and readable for the app's page."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import moto.server
import pytest

from mirrors import APP, release_folder
from model_release.app.fetch import FetchRequest, fetch_model
from model_release.base.errors import HostError, UsageError
from model_release.base.http import Web
from model_release.contract.dist import check_dist
from model_release.contract.manifest import CHECKSUMS_NAME, FileEntry, checksums
from model_release.contract.tag import parse_tag
from model_release.hosts.mirror import AppMirror
from model_release.hosts.mirror_s3 import FOREVER, S3Mirror
from serving import Asked, Reply, Server
from small_release import MODEL, QUICK, TAG, sha256

pytestmark = pytest.mark.network
BUCKET = "models"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 on 127.0.0.1 with an empty bucket."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    server = moto.server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client("s3", endpoint_url=url)
    client.create_bucket(Bucket="private-models")
    client.create_bucket(Bucket=BUCKET)
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/*"}
    client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [everybody]}))
    try:
        yield url
    finally:
        server.stop()


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    return release_folder(tmp_path)


def folder_of(dist: Path) -> str:
    return f"gpt2/{TAG}-{sha256(checksums(check_dist(dist, parse_tag(TAG)).entries))[:16]}"


def upload(
    dist: Path, endpoint: str, target: str = f"s3://{BUCKET}/gpt2", told: list[str] | None = None, **options: Any
) -> str:
    checked = check_dist(dist, parse_tag(TAG))
    mirror = S3Mirror(target, endpoint_url=endpoint, **options)
    told = [] if told is None else told
    return AppMirror(mirror=mirror, web=Web(timeout_s=5), origin=APP, progress=told.append)(
        checked.document, dist, checked.entries
    )


def uploads(dist: Path, endpoint: str) -> list[str]:
    """The names that a run brings."""
    entries = check_dist(dist, parse_tag(TAG)).entries
    return list(S3Mirror(f"s3://{BUCKET}/gpt2", endpoint_url=endpoint).upload(TAG, dist, entries)[1])


def test_a_release_is_mirrored_once_and_the_app_can_be_built_from_it(dist: Path, endpoint: str, tmp_path: Path) -> None:
    first, told = upload(dist, endpoint), list[str]()
    assert first == f"{endpoint}/{BUCKET}/{folder_of(dist)}/model_fp16.onnx?v=1.2.0-{sha256(MODEL)[:8]}"
    assert upload(dist, endpoint, told=told) == first
    assert told == [f"mirror: 0 files uploaded; a page of {APP} can read the model"]
    head = boto3.client("s3", endpoint_url=endpoint).head_object(Bucket=BUCKET, Key=f"{folder_of(dist)}/config.json")
    assert (head["CacheControl"], head["ContentType"]) == (FOREVER, "application/json")

    env_file = tmp_path / ".env.production"
    env_file.write_text(f"VITE_MODEL_VERSION=1.2.0\nVITE_MODEL_URL={first}\n")
    result = fetch_model(FetchRequest(env_file=env_file, static_dir=tmp_path / "static", retry_policy=QUICK), print)
    assert (result.folder / "model_fp16.onnx").read_bytes() == MODEL


@pytest.mark.parametrize("body", [b"x" * len(MODEL), b"short"])
def test_an_object_with_other_bytes_is_replaced(dist: Path, endpoint: str, body: bytes) -> None:
    client = boto3.client("s3", endpoint_url=endpoint)
    key = f"{folder_of(dist)}/model_fp16.onnx"
    client.put_object(Bucket=BUCKET, Key=key, Body=body, CacheControl=FOREVER)
    assert "model_fp16.onnx" in uploads(dist, endpoint)
    assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == MODEL


def test_a_right_object_without_a_checksum_is_read_and_kept(dist: Path, endpoint: str) -> None:
    client = boto3.client("s3", endpoint_url=endpoint)
    key = f"{folder_of(dist)}/model_fp16.onnx"
    client.put_object(Bucket=BUCKET, Key=key, Body=MODEL, CacheControl=FOREVER)
    assert "model_fp16.onnx" not in uploads(dist, endpoint)


def test_a_mirror_that_browsers_may_not_read_is_refused(dist: Path, endpoint: str) -> None:
    with (
        Server(lambda _: Reply(200, MODEL)) as front,
        pytest.raises(HostError, match=r"hop 1.*got none.*CORS rules"),
    ):
        upload(dist, endpoint, public_url=front.url)


def test_a_mirror_whose_answers_a_cache_may_spoil_is_used_with_a_warning(dist: Path, endpoint: str) -> None:
    def amazon(asked: Asked) -> Reply:
        there = {"Access-Control-Allow-Origin": "*", "Vary": "Origin"} if "Origin" in asked.headers else {}
        return Reply(200, MODEL, {"Cache-Control": FOREVER, **there})

    told: list[str] = []
    with Server(amazon) as front:
        assert upload(dist, endpoint, told=told, public_url=front.url).startswith(front.url)
    (warning,) = (line for line in told if line.startswith("warning: "))
    assert "must send Vary: Origin to a request without Origin, too, got none" in warning


def test_a_mirror_that_serves_other_bytes_is_refused(dist: Path, endpoint: str) -> None:
    def front(_: Asked) -> Reply:
        return Reply(200, b"others", {"Access-Control-Allow-Origin": "*"})

    with Server(front) as server, pytest.raises(Exception, match="must have the sha256"):
        upload(dist, endpoint, public_url=server.url)


def test_a_bucket_that_only_we_can_read_is_refused(dist: Path, endpoint: str) -> None:
    with pytest.raises(HostError, match=r"must answer with 200, got 403.*reading without a login"):
        upload(dist, endpoint, "s3://private-models")


def test_a_bucket_that_is_not_there_is_one_sentence(dist: Path, endpoint: str) -> None:
    with pytest.raises(HostError, match="must take the file"):
        upload(dist, endpoint, "s3://nowhere")


def test_a_file_that_changed_meanwhile_is_not_uploaded(dist: Path, endpoint: str) -> None:
    entry = FileEntry(name=CHECKSUMS_NAME, size_bytes=1, sha256="0" * 64)
    with pytest.raises(HostError, match="must have the sha256"):
        S3Mirror(f"s3://{BUCKET}", endpoint_url=endpoint).upload(TAG, dist, [entry])


@pytest.mark.parametrize(
    "target",
    [
        "s3://",
        "s3:///x",
        "s3://a",
        "s3://Models/x",
        "s3://models/../x",
        "s3://models/a b",
        "http://x",
        "s3://models/$(id)",
    ],
)
def test_what_is_no_bucket_is_refused(target: str) -> None:
    with pytest.raises(UsageError, match="s3://BUCKET/PREFIX"):
        S3Mirror(target)


def test_two_mirrors_at_a_time_end_alike(dist: Path, endpoint: str) -> None:
    urls: list[str] = []
    threads = [threading.Thread(target=lambda: urls.append(upload(dist, endpoint))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(urls) == 3
    assert len(set(urls)) == 1
