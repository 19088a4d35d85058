import pytest

from kinetrack.errors import InputError
from kinetrack.versioning.tracked import Tracked, is_md5, list_tracked

MD5 = "0123456789abcdef0123456789abcdef"
OUT = f"md5: {MD5}\n  size: 3\n  hash: md5\n"


def write(root, name, text):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_dvc_files_come_before_the_stages_of_the_lock(tmp_path):
    write(tmp_path, "data/videos/b.dvc", f"outs:\n- {OUT}  path: b\n")
    write(tmp_path, "data/videos/a.dvc", f"outs:\n- md5: {MD5}.dir\n  hash: md5\n  path: a\n")
    write(tmp_path, ".hidden/d.dvc", f"outs:\n- {OUT}  path: d\n")
    for folder in (".dvc/tmp/exps/1", ".git", ".kinetrack", "my venv"):
        write(tmp_path, f"{folder}/lib/c.dvc", f"outs:\n- {OUT}  path: c\n")
    write(tmp_path, "my venv/pyvenv.cfg", "home = /usr/bin\n")
    write(
        tmp_path,
        "dvc.lock",
        f"schema: '2.0'\nstages:\n  make:\n    cmd: x\n    outs:\n    - path: out\n"
        f"      hash: md5\n      md5: {MD5}.dir\n",
    )
    assert list_tracked(tmp_path) == [
        Tracked(".hidden/d", MD5, ".hidden/d.dvc", is_stage=False),
        Tracked("data/videos/a", f"{MD5}.dir", "data/videos/a.dvc", is_stage=False),
        Tracked("data/videos/b", MD5, "data/videos/b.dvc", is_stage=False),
        Tracked("out", f"{MD5}.dir", "make", is_stage=True),
    ]


@pytest.mark.parametrize(
    ("declared", "is_cached"),
    [
        ("outs: [reports/x.csv]", True),
        ("outs: [{reports/x.csv: {cache: true}}]", True),
        ("outs: [{reports/x.csv: {cache: false}}]", False),
        ("metrics: [{reports/x.csv: {cache: false}}]", False),
        ("plots: [{'reports/${name}.csv': {cache: false, x: epoch}}]", False),
    ],
)
def test_what_dvc_yaml_keeps_out_of_the_cache_is_known(tmp_path, declared, is_cached):
    write(tmp_path, "dvc.yaml", f"stages:\n  make:\n    cmd: x\n    {declared}\n")
    write(tmp_path, "dvc.lock", f"stages:\n  make:\n    outs:\n    - path: reports/x.csv\n      "
          f"hash: md5\n      md5: {MD5}\n")  # fmt: skip
    [found] = list_tracked(tmp_path)
    assert found.is_cached == is_cached


@pytest.mark.parametrize(
    ("out", "why"),
    [
        (f"{OUT}  path: ../../a", "outside"),
        (f"{OUT}  path: /etc/passwd", "outside"),
        (f"{OUT}  path: ../..", "outside"),
        (f"md5: {MD5}\n  path: a", "MD5 of DVC 2"),
        ("etag: abc\n  path: a", "recorded by etag"),
        (f"hash: md5\n  path: a\n  files:\n  - relpath: x\n    md5: {MD5}", "recorded by files"),
        ("md5: ../../../etc/passwd\n  hash: md5\n  path: a", "recorded by md5, not by a whole MD5"),
        ("path: a", "recorded by nothing"),
    ],
)
def test_what_cannot_be_compared_says_why(tmp_path, out, why):
    write(tmp_path, "data/videos/a.dvc", f"outs:\n- {out}\n")
    root = tmp_path / "data"
    (tmp_path / "data/videos/a.dvc").rename(tmp_path / "data/a.dvc")
    [found] = list_tracked(root)
    assert why in found.not_checkable


def test_a_fresh_project_tracks_nothing(tmp_path):
    assert list_tracked(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<<<<<<< HEAD\nstages: {}\n=======\n", "cannot be read"),
        ("[]", "is no file of DVC's"),
        ("stages: [a]", "holds no stages"),
        ("stages: {make: {outs: [{md5: x}]}}", "without a path"),
        ("stages: {make: {outs: {a: b}}}", "no list"),
    ],
)
def test_a_lock_that_is_none_is_refused(tmp_path, text, problem):
    write(tmp_path, "dvc.lock", text)
    with pytest.raises(InputError, match=f"{problem}.* -> git checkout -- .*dvc.lock"):
        list_tracked(tmp_path)


def test_a_name_of_a_cache_object_is_plain():
    assert is_md5(MD5)
    assert is_md5(f"{MD5}.dir")
    for text in ("", MD5[1:], f"../{MD5}", f"{MD5}\n", MD5.upper(), 3):
        assert not is_md5(text)
