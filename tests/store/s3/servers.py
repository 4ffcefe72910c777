"""S3 servers on loopback, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

BUCKET = "bucket"
KEY_ID, SECRET = "TESTKEYID", "not-a-secret-but-looked-for"
S3RVER_KEYS = ("S3RVER", "S3RVER")  # it knows no others


def environment(endpoint: str, keys: tuple[str, str] = (KEY_ID, SECRET)) -> dict[str, str]:
    """What a user sets."""
    return {
        "AWS_ACCESS_KEY_ID": keys[0],
        "AWS_SECRET_ACCESS_KEY": keys[1],
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """Run moto in a process of its own and yield its endpoint."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, cwd=None):
        endpoint = f"http://127.0.0.1:{port}"
        _make_bucket(endpoint)
        yield endpoint


def weed() -> str | None:
    """Path of SeaweedFS's program, as the package of PyPI installs it."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


class ServerEndedError(Exception):
    """A server ended before it answered."""


@contextlib.contextmanager
def seaweed(folder: Path) -> Iterator[str]:
    """Run SeaweedFS on free ports and yield its endpoint."""
    program = weed()
    assert program is not None
    everyone = {
        "name": "tests",
        "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    anonymous = {"name": "anonymous", "actions": ["Read:public", "List:public"]}
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [everyone, anonymous]}))
    for last in (False, False, True):
        names = ("master.port", "volume.port", "filer.port", "s3.port")
        ports = dict(zip(names, free_ports(4), strict=True))
        grpc = dict(zip([f"{name}.grpc" for name in names], free_ports(4), strict=True))
        command = [
            program,
            "server",
            "-s3",
            "-s3.port.iceberg=0",  # these two would be the same for every server of the machine
            "-s3.port.lance=0",
            f"-s3.config={config}",
            f"-dir={folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-volume.max=20",
            "-master.volumeSizeLimitMB=64",
            *(f"-{name}={port}" for name, port in {**ports, **grpc}.items()),
        ]
        with _running(command, cwd=folder) as process:
            endpoint = f"http://127.0.0.1:{ports['s3.port']}"
            try:
                _make_bucket(endpoint, alive=lambda: process.poll() is None)
            except ServerEndedError:  # somebody else took one of the ports meanwhile
                if last:
                    raise
                continue
            yield endpoint
            return


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[str]:
    """Run ``rclone serve s3`` and yield its endpoint."""
    [port] = free_ports(1)
    keys = f"--auth-key={KEY_ID},{SECRET}"
    with _running(
        ["rclone", "serve", "s3", keys, f"--addr=127.0.0.1:{port}", str(folder)], cwd=folder
    ):
        endpoint = f"http://127.0.0.1:{port}"
        _make_bucket(endpoint)
        yield endpoint


def has_rclone() -> bool:
    """Whether there is an rclone that serves S3, as those from 1.65 on do."""
    if shutil.which("rclone") is None:
        return False
    asked = subprocess.run(["rclone", "serve", "s3", "--help"], capture_output=True, check=False)
    return asked.returncode == 0 and b"--auth-key" in asked.stdout


@contextlib.contextmanager
def s3rver(folder: Path) -> Iterator[str]:
    """Run s3rver and yield its endpoint."""
    [port] = free_ports(1)
    where = ("-d", str(folder), "-a", "127.0.0.1", "-p", str(port))
    with _running(["s3rver", "-s", *where], cwd=folder):
        endpoint = f"http://127.0.0.1:{port}"
        _make_bucket(endpoint, keys=S3RVER_KEYS)
        yield endpoint


@contextlib.contextmanager
def _running(command: list[str], *, cwd: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _make_bucket(
    endpoint: str,
    *names: str,
    alive: Callable[[], bool] = lambda: True,
    keys: tuple[str, str] = (KEY_ID, SECRET),
) -> None:
    """Make the buckets, once the server answers; ServerEndedError if it never will."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=20),
    )
    deadline = monotonic() + 90
    while True:
        try:
            for name in (BUCKET, "public", *names):
                client.create_bucket(Bucket=name)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"1")
        except (BotoCoreError, ClientError):
            if not alive():
                raise ServerEndedError(endpoint) from None
            if monotonic() > deadline:
                raise
            sleep(0.2)  # until the program listens: there is nothing else to wait on
        else:
            return
