"""A store in a bucket, from `extract` to `export`, as typed; the bucket is moto's, on a loopback port."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from echolung.datasets import phantom_lung

HOW = "--encoder random:vit_tiny --frames 4 --size 32 --workers 1 --device cpu --precision float32 --batch 1"

Shell = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def endpoint():
    """Return the address of an S3 with one bucket, `stores`."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    make = "import s3fs, sys; s3fs.S3FileSystem(endpoint_url=sys.argv[1], key='k', secret='s').mkdir('stores')"
    subprocess.run([sys.executable, "-c", make, address], check=True, env=without_aws())
    yield address
    server.stop()


def without_aws() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nowhere", "OMP_NUM_THREADS": "1"}
    return kept | nowhere | {"AWS_DEFAULT_REGION": "us-east-1", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    phantom_lung.write(folder, videos=18, frames=8, size=48)
    return folder


@pytest.fixture
def environment(endpoint) -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "hush"}
    return without_aws() | keys | {"AWS_ENDPOINT_URL": endpoint}


@pytest.fixture
def shell(environment) -> Shell:
    """Return a runner of echolung: exit code, stdout, stderr (in one line); options are changes of the environment."""

    def call(line: str, **changes: str | None) -> tuple[int, str, str]:
        env = {name: value for name, value in (environment | changes).items() if value is not None}
        done = subprocess.run(
            [sys.executable, "-m", "echolung.cli", *line.split()], capture_output=True, text=True, env=env
        )
        assert "Traceback" not in done.stderr and "hush" not in done.stdout + done.stderr, done.stderr
        return done.returncode, done.stdout, " ".join(done.stderr.split())

    return call


def held(prefix: str) -> list[str]:
    """Return what the bucket holds."""
    from moto.s3.models import s3_backends

    (backend,) = (backends["aws"] for backends in s3_backends.values())
    return [name for name in list(backend.buckets["stores"].keys) if name.startswith(prefix)]


def arrays(store):
    group = zarr.open_group(store, mode="r")
    return {name: node[...] for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}


def fetch(url: str, to: Path, environment: dict[str, str]) -> Path:
    """Copy a store out of the bucket, as anybody would."""
    get = "import fsspec, sys; fsspec.filesystem('s3').get(sys.argv[1], sys.argv[2], recursive=True)"
    subprocess.run([sys.executable, "-c", get, url, str(to)], check=True, env=environment)
    return to


def test_extract_probe_verify_export(shell, environment, phantoms, tmp_path):
    url, local = "s3://stores/lungs/a.zarr", tmp_path / "a.zarr"
    extract = f"extract --dataset phantom-lung --data {phantoms} {HOW} --store"
    code, _, err = shell(f"{extract} {local}")
    assert code == 0, err
    killed = subprocess.Popen(
        [sys.executable, "-m", "echolung.cli", *extract.split(), url],
        env=environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while len(held("lungs/a.zarr/tokens/c/")) < 5 and killed.poll() is None:
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    code, _, err = shell(f"probe --store {url} --probe knn --cv 3 --no-report")
    assert code == 2 and "stopped half-way" in err
    code, out, err = shell(f"{extract} {url}")
    assert code == 0, err
    assert f"see to it that nobody else writes {url}" in err and "36 of 36 clips" in out
    copy = fetch(url, tmp_path / "copy.zarr", environment)
    expected, found = arrays(local), arrays(copy)
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)

    code, _, err = shell(f"{extract} {url}")
    assert code == 0 and "a.zarr is complete; nothing to do" in err
    results = [shell(f"probe --store {store} --probe logistic --cv 3 --json --no-report") for store in (url, local)]
    assert all(code == 0 for code, _, _ in results), results
    metrics = [json.loads(out)["metrics"] for _, out, _ in results]
    assert metrics[0] == metrics[1]
    code, out, err = shell(f"cache verify {url}")
    assert code == 0 and "nothing is broken (36 of 36 clips complete" in out, err
    code, _, err = shell(f"cache export {tmp_path / 'a.h5'} --store {url}")
    assert code == 0, err
    code, _, err = shell(f"cache import {tmp_path / 'a.h5'} --to {tmp_path / 'back.zarr'}")
    assert code == 0, err
    back = arrays(tmp_path / "back.zarr")
    for name in expected:
        np.testing.assert_array_equal(back[name], expected[name], err_msg=name)

    code, _, err = shell(f"{extract} s3://stores/b.zarr --part 1/2")
    assert code == 2 and "several writers need a folder" in err
    code, _, err = shell(f"cache remove --yes {url}")
    assert code == 0 and "Removed a.zarr (36 clips," in err
    code, _, err = shell(f"cache info {url}")
    assert code == 2 and f"There is no token store at {url}" in err


def test_damage_in_a_bucket(shell, environment, phantoms, tmp_path):
    url = "s3://stores/damaged.zarr"
    code, _, err = shell(
        f"extract --dataset phantom-lung --data {phantoms} {HOW} --segments 1 --tokens none --store {url}"
    )
    assert code == 0, err
    spoil = "import fsspec; fsspec.filesystem('s3').pipe_file('stores/damaged.zarr/pooled/c/0/0', b'spoilt')"
    subprocess.run([sys.executable, "-c", spoil], check=True, env=environment)
    code, out, _ = shell(f"cache verify {url}")
    assert code == 1 and "pooled:" in out
    code, _, err = shell(f"cache verify {url} --repair --data {phantoms}")
    assert code == 2 and "cannot be repaired where it is" in err


def test_what_cannot_be_reached(shell, phantoms):
    extract = f"extract --dataset phantom-lung --data {phantoms} {HOW} --store s3://stores/x.zarr"
    code, _, err = shell(extract.replace("s3://stores", "s3://nowhere"))
    assert code == 2 and "The specified bucket does not exist" in err
    code, _, err = shell("probe --store s3://nowhere/x.zarr --probe knn")
    assert code == 2 and "nor is there anything at s3://nowhere" in err
    code, _, err = shell("probe --store s3://stores/x.zarr --probe knn")
    assert code == 2 and "There is no token store at s3://stores/x.zarr (no Zarr group found)" in err
    nobody: dict[str, str | None] = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    for line in (extract, "cache verify s3://stores/x.zarr", "probe --store s3://stores/x.zarr --probe knn"):
        code, _, err = shell(line, **nobody)
        assert code == 2 and "Unable to locate credentials" in err, line
        code, _, err = shell(line, AWS_ENDPOINT_URL="http://127.0.0.1:9")
        assert code == 2 and "Could not connect to the endpoint" in err, line
    code, _, err = shell(extract, AWS_ENDPOINT_URL="nonsense")
    assert code == 2 and "Invalid endpoint" in err
