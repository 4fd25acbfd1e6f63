"""Servers on this machine that speak the protocols of S3 and of Google Cloud Storage."""

import contextlib
import logging
import urllib.request
from collections.abc import Iterator

import pytest

BUCKET = "bucket"


@contextlib.contextmanager
def s3(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yields the address of an empty bucket; the environment leads to it."""
    from moto.server import ThreadedMotoServer

    from gan_jax.buckets import bucket

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # what a server of this process had before is what a new one has
    urllib.request.urlopen(f"http://{host}:{port}/moto-api/reset", data=b"", timeout=60).close()
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    try:
        bucket.file_system("s3").mkdir(BUCKET)
        yield f"s3://{BUCKET}"
    finally:
        server.stop()


@contextlib.contextmanager
def gs(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """As `s3`, of Google Cloud Storage."""
    from gcp_storage_emulator.server import create_server

    for name in ("gcp_storage_emulator", "gcp_storage_emulator.storage"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    server.start()
    port = server._api._httpd.server_address[1]
    patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    try:
        yield f"gs://{BUCKET}"
    finally:
        server.stop()
