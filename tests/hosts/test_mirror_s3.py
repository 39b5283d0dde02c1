"""A mirror in an S3-compatible store: what is there is right, kept, and readable for the app's page."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import moto.server
import pytest
from botocore.exceptions import ClientError

from mirrors import APP, release_folder
from model_release.app.fetch import FetchRequest, fetch_model
from model_release.base.errors import HostError, UsageError
from model_release.base.http import Web
from model_release.contract.dist import check_dist
from model_release.contract.manifest import CHECKSUMS_NAME, FileEntry, checksums
from model_release.contract.tag import parse_tag
from model_release.hosts.mirror import AppMirror, match_target
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
    dist: Path,
    endpoint: str,
    target: str = f"s3://{BUCKET}/gpt2",
    told: list[str] | None = None,
    *,
    was_public: bool = True,
    **options: Any,
) -> str:
    checked = check_dist(dist, parse_tag(TAG))
    told = [] if told is None else told
    mirror = S3Mirror(target, endpoint_url=endpoint, progress=told.append, **options)
    return AppMirror(mirror=mirror, web=Web(timeout_s=5), origin=APP, progress=told.append)(
        checked.document, dist, checked.entries, was_public=was_public
    )


def uploads(dist: Path, endpoint: str) -> list[str]:
    """The names that a run brings."""
    checked, mirror = check_dist(dist, parse_tag(TAG)), S3Mirror(f"s3://{BUCKET}/gpt2", endpoint_url=endpoint)
    return list(mirror.upload(checked.document, dist, checked.entries, was_public=True)[1])


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


def keys(endpoint: str) -> set[str]:
    found = boto3.client("s3", endpoint_url=endpoint).list_objects_v2(Bucket=BUCKET)
    return {each["Key"] for each in found.get("Contents", ())}


OF_A_TRY = f"gpt2/{TAG}-{'0' * 16}/model_fp16.onnx"
OF_OTHERS = {
    f"gpt2/{TAG}-{'0' * 16}-{'1' * 16}/model_fp16.onnx",
    f"gpt2/{TAG}-rc.1-{'0' * 16}/a",
    f"gpt2/{TAG}-notes/a",
}


@pytest.mark.parametrize("was_public", [False, True])
def test_what_a_try_left_goes_unless_a_page_may_use_it(dist: Path, endpoint: str, was_public: bool) -> None:
    for key in {OF_A_TRY, *OF_OTHERS}:
        boto3.client("s3", endpoint_url=endpoint).put_object(Bucket=BUCKET, Key=key, Body=b"x")
    told: list[str] = []
    upload(dist, endpoint, told=told, was_public=was_public)
    own = {f"{folder_of(dist)}/{path.name}" for path in dist.iterdir()}
    assert keys(endpoint) == own | OF_OTHERS | ({OF_A_TRY} if was_public else set())
    removed = f"mirror: {OF_A_TRY} is removed, of a try that never became public"
    assert (removed in told) is not was_public


def test_a_store_that_lets_us_remove_nothing_gets_a_warning(dist: Path, endpoint: str) -> None:
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.paginate.Paginator.paginate", _refuse)
        upload(dist, endpoint, told=told, was_public=False)
    (warning,) = (line for line in told if line.startswith("warning: "))
    assert (
        f"s3://{BUCKET}/gpt2/{TAG}-* could not be looked for and removed, got: An error occurred (AccessDenied)"
        in warning
    )
    assert "Allow s3:ListBucket and s3:DeleteObject" in warning


def _refuse(*_: object, **__: object) -> Iterator[Any]:
    """What a bucket says whose policy does not allow to list it."""
    raise ClientError({"Error": {"Code": "AccessDenied", "Message": "Access Denied"}}, "ListObjectsV2")


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
    document = check_dist(dist, parse_tag(TAG)).document
    with pytest.raises(HostError, match="must have the sha256"):
        S3Mirror(f"s3://{BUCKET}", endpoint_url=endpoint).upload(document, dist, [entry], was_public=True)


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


@pytest.mark.parametrize("target", ["foo:bar", "models", "https://x/y", "HUB:org/repo"])
def test_a_mirror_of_neither_kind_is_told_both(target: str) -> None:
    with pytest.raises(UsageError, match=r"must be hub:ORG/REPO or s3://BUCKET/PREFIX, got "):
        match_target(target)
