"""A bucket of a real server is read as a folder of the disk is, whatever the line to it does."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import unicodedata

import pytest

from rewarm.core.errors import DataError, Unreachable, UserError
from rewarm.core.workspace import Workspace
from rewarm.data.documents import Document, read_documents
from rewarm.data.files import File, Meter, lines_of_range, list_files
from rewarm.data.remote import browse, file
from rewarm.data.signature import ChangedError, UnsettledError
from tests.data.test_documents import zipped
from tests.servers import BUCKET, KEY, SECRET, Proxy, Reply, Store, serving, unreliable

NAMES = [
    "a b.txt", "new\nline.txt", "emoji😀.txt", unicodedata.normalize("NFD", "Điều luật.txt"), "100%20+.txt",
    "q?x#y.txt", "it's \"this\" & <that>.txt", "[1]*.txt", "ñ" * 100 + ".txt", "deep/er/er.txt",
    f"{'/'.join(['k' * 250] * 4)}/{'x' * 10}.txt",
]  # fmt: skip


def texts_of(file: File) -> list[str]:
    return [item.text for item in read_documents(file) if isinstance(item, Document)]


def noise(size: int) -> bytes:
    """Lines that do not pack well and are all different."""
    return b"".join(b'{"text": "%d %s"}\n' % (n, os.urandom(60).hex().encode()) for n in range(size // 140))


def test_names_of_all_kinds_are_listed_and_read(store: Store, workspace: Workspace) -> None:
    connection = store.connect(workspace)
    uris = sorted(store.put(f"names/{name}", name.encode()) for name in NAMES)
    store.put("names/.hidden.txt", b"no")
    store.put("names/.git/config.txt", b"no")
    store.put("names/picture.png", b"no")
    store.put("names/folder/", b"")
    listing = list_files([f"s3://{BUCKET}/names"], connection=connection)
    assert listing.files == uris
    assert listing.ignored == [f"s3://{BUCKET}/names/picture.png"]
    for uri in uris:
        known = listing.signatures[uri]
        assert File.at(uri, connection).signature == known
        with File(uri, known, connection).open() as source:
            assert source.read().decode() == uri.partition("/names/")[2]
        assert list_files([uri], connection=connection).files == [uri]


def test_patterns_folders_and_what_is_not_there(store: Store, workspace: Workspace) -> None:
    connection = store.connect(workspace)
    for key in ("p/a1.jsonl", "p/a2.jsonl", "p/b.txt", "p/q/a3.jsonl", "p/q/r/a4.jsonl", "p-other/a5.jsonl"):
        store.put(key, b"x")

    def names(path: str) -> list[str]:
        files = list_files([f"s3://{BUCKET}/{path}"], connection=connection).files
        return [uri.rpartition("/")[2].partition(".")[0] for uri in files]

    assert names("p") == names("p/") == ["a1", "a2", "b", "a3", "a4"]
    assert names("p/*.jsonl") == ["a1", "a2"]
    assert names("p/a[2-9].jsonl") == ["a2"]
    assert names("p/a[!2].jsonl") == ["a1"]
    assert names("p/?1.jsonl") == ["a1"]
    assert names("p/**/*.jsonl") == ["a1", "a2", "a3", "a4"]
    assert names("p*/a?.jsonl") == ["a5", "a1", "a2"]
    assert names("p/q*") == ["a3", "a4"]
    for missing in ("nothing", "p/none*.jsonl", "p/a1.json", "p/a"):
        with pytest.raises(DataError, match="no such file or folder"):
            names(missing)
    shown = {e.uri.removeprefix(f"s3://{BUCKET}/p/"): e.signature for e in browse(f"s3://{BUCKET}/p", connection)}
    assert set(shown) == {"a1.jsonl", "a2.jsonl", "b.txt", "q/"}
    assert shown["q/"] is None
    assert [e.uri for e in browse(f"s3://{BUCKET}/p/*2*", connection)] == [f"s3://{BUCKET}/p/a2.jsonl"]
    assert f"s3://{BUCKET}/" in [entry.uri for entry in browse("s3://", connection)]


def test_long_listings_come_in_pages(store: Store, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewarm.data.remote.s3._PAGE", 3)
    connection = store.connect(workspace)
    uris = [store.put(f"many/{number} ộ+&.txt", b"x") for number in range(8)]
    assert list_files([f"s3://{BUCKET}/many"], connection=connection).files == uris


def test_a_zip_a_range_and_a_seek(store: Store, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "BLOCK", 10_000)
    connection, data = store.connect(workspace), noise(100_000)
    inside = File.at(store.put("far/a.zip", zipped({"b.jsonl": data, "a.txt": b"first"})), connection)
    assert len(texts_of(inside)) == 1 + data.count(b"\n")
    plain = File.at(store.put("far/a.jsonl", data), connection)
    cuts = [0, 33_333, 66_666, len(data)]
    found = [line for a, b in itertools.pairwise(cuts) for line in lines_of_range(plain, Meter(), 999, a, b)]
    assert found == data.splitlines()
    with plain.open() as source:
        assert source.seek(-50, 2) == len(data) - 50
        assert source.read() == data[-50:]
        assert source.read(10) == b""
        source.seek(9_990)
        assert source.read(20) == data[9_990:10_010]


def test_objects_in_parts(store: Store, workspace: Workspace) -> None:
    data = noise(12 << 20)
    parts = [data[: 5 << 20], data[5 << 20 : 10 << 20], data[10 << 20 :]]
    whole = File.at(store.put_parts("parts/a.jsonl", parts), store.connect(workspace))
    assert "-" in whole.signature.version
    with whole.open() as source:
        assert source.read() == data


def test_the_bucket_s_own_address(store: Store, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such an address has the bucket in its host; no key may be looked for under the bucket's name then."""
    asked: list[str] = []

    def honest_path(path: str, reply: Reply) -> Reply:
        asked.append(path)
        body = b"<ListBucketResult><Contents><Key>k/a.txt</Key><ETag>&quot;1&quot;</ETag><Size>1</Size></Contents>"
        return Reply(200, {}, body + b"</ListBucketResult>")

    proxy = Proxy(store.address)
    proxy.fault = honest_path
    monkeypatch.setenv("http_proxy", proxy.address)  # so that the name need not be known
    connection = store.connect(workspace, endpoint=f"http://{BUCKET}.s3.example.com")
    assert [e.uri for e in browse(f"s3://{BUCKET}/k/", connection)] == [f"s3://{BUCKET}/k/a.txt"]
    assert [e.uri for e in browse("s3://other/k/", connection)] == ["s3://other/k/a.txt"]
    assert asked[0].startswith(f"http://{BUCKET}.s3.example.com/?")
    assert asked[1].startswith(f"http://{BUCKET}.s3.example.com/other/?")
    proxy.close()


@pytest.mark.parametrize(
    ("changes", "bucket", "words"),
    [
        ({"access_key": "AKIAUNKNOWN"}, BUCKET, "does not know this access key"),
        ({"secret_key": "canary-wrong-secret"}, BUCKET, "secret key is not the one"),
        ({"access_key": "AKIAPOOR"}, BUCKET, "may not read"),
        ({}, "no-such-bucket", "no such bucket"),
        ({}, "No_Bucket!", "no bucket can be named"),
        ({"endpoint": "http://127.0.0.1:1"}, BUCKET, "nothing answers there"),
    ],
)
def test_what_is_wrong_is_said_without_the_secret(
    store: Store, workspace: Workspace, changes: dict[str, str], bucket: str, words: str
) -> None:
    connection = store.connect(workspace, **changes)
    with pytest.raises(DataError, match=words) as caught:
        list_files([f"s3://{bucket}/x"], connection=connection)
    assert caught.value.exit_code == 3
    assert caught.value.remedy
    assert not any(word in str(caught.value) for word in (SECRET, "canary", "Signature", KEY))


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (400, "AuthorizationHeaderMalformed", "the region of the connection is wrong"),
        (301, "PermanentRedirect", "in another region or at another endpoint"),
        (403, "RequestTimeTooSkewed", "the clock of this machine is wrong"),
        (400, "ExpiredToken", "the key has expired"),
    ],
)
def test_answers_that_the_test_server_does_not_give(
    store: Store, workspace: Workspace, proxy: Proxy, status: int, code: str, words: str
) -> None:
    connection = store.connect(workspace, endpoint=proxy.address, region="eu-west-3")
    proxy.fault = lambda path, reply: Reply(status, {}, f"<Error><Code>{code}</Code>{SECRET}</Error>".encode())
    with pytest.raises(UnsettledError, match=words) as caught:
        list_files([f"s3://{BUCKET}/x"], connection=connection)
    assert SECRET not in str(caught.value) and len(proxy.asked) == 1
    assert "/eu-west-3/s3/" in proxy.asked[0][1]["Authorization"]


def test_no_connection_the_wrong_kind_and_no_client(store: Store, workspace: Workspace) -> None:
    with pytest.raises(UserError, match="needs a connection"):
        list_files(["s3://corpora/x"])
    for address in ("https://me:canary@127.0.0.1/a", "https://127.0.0.1/a?x=1&X-Amz-Signature=canary#x"):
        with pytest.raises(UserError, match="this address has a password or a signature") as caught:
            list_files([address])
        assert "127.0.0.1/a: " in str(caught.value) and "canary" not in str(caught.value)
    with pytest.raises(UserError, match="no connection 'nobody'"):
        list_files(["s3://corpora/x"], connection="nobody")
    store.connect(workspace)
    with pytest.raises(UserError, match="of kind s3"):
        list_files(["https://127.0.0.1/x"], connection="store")
    code = (
        "import sys\nsys.modules['botocore'] = None\nfrom rewarm.data.files import list_files\n"
        "list_files(['s3://corpora/x'], connection='store')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'rewarm[s3]'" in done.stderr


# ---- faults ----


@pytest.fixture
def data() -> bytes:
    return noise(400_000)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "BLOCK", 20_000)


def read(file: File) -> bytes:
    with file.open() as source:
        return source.read()


@pytest.mark.parametrize("seed", range(4))
def test_a_third_of_all_answers_may_fail(
    store: Store, workspace: Workspace, proxy: Proxy, data: bytes, small: None, seed: int
) -> None:
    connection = store.connect(workspace, endpoint=proxy.address)
    store.put("bad/a.jsonl", data)
    proxy.fault = unreliable(0.3, seed)
    listing = list_files([f"s3://{BUCKET}/bad/*.jsonl"], connection=connection)
    assert read(File(listing.files[0], next(iter(listing.signatures.values())), connection)) == data
    assert len(proxy.asked) > 25


def test_slow_answers_are_asked_for_again(
    store: Store, workspace: Workspace, proxy: Proxy, data: bytes, small: None
) -> None:
    connection = store.connect(workspace, endpoint=proxy.address)
    whole = File.at(store.put("bad/slow.jsonl", data), connection)
    waits = iter([0.9, 0.9])

    def slow(path: str, reply: Reply) -> Reply:
        return Reply(reply.status, reply.headers, reply.body, wait=next(waits, 0.0))

    proxy.fault = slow
    assert read(whole) == data


def test_a_cut_answer_is_gone_on_with_from_where_it_ended(store: Store, workspace: Workspace, proxy: Proxy) -> None:
    data = os.urandom(300_000)
    connection = store.connect(workspace, endpoint=proxy.address)
    whole = File.at(store.put("bad/cut.txt", data), connection)
    proxy.asked.clear()
    proxy.fault = lambda path, reply: Reply(reply.status, reply.headers, reply.body, cut=100_000)
    assert read(whole) == data
    starts = [int(headers["Range"][6:].partition("-")[0]) for _, headers in proxy.asked]
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert len(starts) <= 5


def test_a_server_that_is_gone_is_said_and_nothing_is_skipped(
    store: Store, workspace: Workspace, proxy: Proxy, data: bytes, small: None
) -> None:
    connection = store.connect(workspace, endpoint=proxy.address)
    whole = File.at(store.put("bad/gone.jsonl", data), connection)
    proxy.fault = lambda path, reply: Reply(503, {}, SECRET.encode())
    with pytest.raises(Unreachable, match="HTTP 503; 9 times") as caught:
        list(read_documents(whole))
    assert SECRET not in str(caught.value)


def test_an_object_that_changes_is_an_error(store: Store, workspace: Workspace, data: bytes, small: None) -> None:
    connection = store.connect(workspace)
    uri = store.put("moving/a.jsonl", data)
    source = File.at(uri, connection).open()
    assert source.read(30_000) == data[:30_000]
    store.put("moving/a.jsonl", noise(400_000))
    with pytest.raises(ChangedError, match=r"changed while it was read"):
        source.read()
    source.close()
    known = File.at(uri, connection)
    store.put("moving/a.jsonl", data[:1000])  # shorter
    with pytest.raises(ChangedError, match=r"changed while it was read"):
        read(known)
    store.client.delete_object(Bucket=BUCKET, Key="moving/a.jsonl")
    with pytest.raises(ChangedError, match="no longer there"):
        read(known)


def test_a_version_that_the_server_does_not_check_is_checked_here(
    store: Store, workspace: Workspace, proxy: Proxy, data: bytes, small: None
) -> None:
    connection = store.connect(workspace, endpoint=proxy.address)
    whole = File.at(store.put("moving/b.jsonl", data), connection)
    proxy.fault = lambda path, reply: Reply(reply.status, {**reply.headers, "Etag": '"another"'}, reply.body)
    with pytest.raises(ChangedError):
        read(whole)


def test_a_version_that_looks_like_a_hash_and_is_none(
    store: Store, workspace: Workspace, proxy: Proxy, data: bytes, small: None
) -> None:
    connection = store.connect(workspace, endpoint=proxy.address)
    proxy.fault = serving(proxy, data, "0f" * 16)  # as servers do that encrypt with a key of the customer's
    whole = File.at(f"s3://{BUCKET}/kms/a.jsonl", connection)
    assert read(whole) == data
    proxy.asked.clear()
    assert read(whole) == data
    assert proxy.asked == []


def test_a_server_that_leads_elsewhere_is_not_followed(store: Store, workspace: Workspace, proxy: Proxy) -> None:
    other = Proxy(store.address)
    connection = store.connect(workspace, endpoint=proxy.address)
    proxy.fault = lambda path, reply: Reply(307, {"Location": f"{other.address}{path}"}, b"")
    with pytest.raises(UnsettledError, match="leads elsewhere"):
        list_files([f"s3://{BUCKET}/x"], connection=connection)
    assert other.asked == []
    other.close()


def test_what_was_fetched_is_not_fetched_again_and_damage_to_it_is_noticed(
    store: Store, workspace: Workspace, proxy: Proxy, data: bytes, small: None
) -> None:
    connection = store.connect(workspace, endpoint=proxy.address)
    whole = File.at(store.put("kept/a.jsonl", data), connection)
    assert read(whole) == data
    proxy.asked.clear()
    assert read(whole) == data
    assert proxy.asked == []
    blocks = sorted(p for p in workspace.cache.glob("??/*") if p.stat().st_size > 100)
    assert len(blocks) == -(-len(data) // 20_000)
    broken = blocks[0].read_bytes()
    blocks[0].write_bytes(broken[:-1] + bytes([broken[-1] ^ 4]))
    blocks[1].write_bytes(broken[:500])
    assert read(whole) == data
    assert len(proxy.asked) == 2
