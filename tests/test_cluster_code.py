import shutil
from pathlib import Path

import pytest

from kinetrack import cluster_code


def test_code_is_known_by_every_file_and_its_name(tmp_path: Path) -> None:
    hashes = set()
    for name, content in [("a.py", "1"), ("a.py", "2"), ("b.py", "2"), ("c/b.py", "2")]:
        shutil.rmtree(tmp_path / "code", ignore_errors=True)
        (tmp_path / "code/c").mkdir(parents=True)
        (tmp_path / "code" / name).write_text(content)
        hashes.add(cluster_code._hash_code(tmp_path / "code"))
    assert len(hashes) == 4


@pytest.mark.parametrize("name", cluster_code.describe_code())
def test_every_difference_of_a_worker_is_refused(tmp_path: Path, name: str) -> None:
    facts = {**cluster_code.describe_code(), name: "other"}
    error = cluster_code.find_difference(facts, tmp_path, "tcp://far:1")
    assert str(error).startswith(f"worker tcp://far:1: has another {name}, found ")


def test_worker_without_our_files_is_refused(tmp_path: Path) -> None:
    error = cluster_code.find_difference(
        cluster_code.describe_code(), tmp_path / "absent", "tcp://far:1"
    )
    assert str(error).startswith("worker tcp://far:1: cannot write to our files")
