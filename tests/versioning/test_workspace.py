import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetrack.errors import InputError
from kinetrack.versioning import workspace
from kinetrack.versioning.workspace import apply_changes, uncommitted_changes

from project import environment

BYTES = bytes(range(256))
COMMITTED = {
    ".gitignore": b"ignored*\n",
    "src/net.py": b"layers = 3\n",
    "src/old name.py": b"print('old')\n" * 20,
    "src/run.sh": b"echo\n",
    "picture.bin": BYTES,
    "folder/inner.txt": b"inner",
    "empty": b"",
}


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "files")


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one commit; read only."""
    folder = tmp_path_factory.mktemp("origin") / "a repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    write(folder, COMMITTED)
    (folder / "link").symlink_to("picture.bin")
    commit(folder)
    return folder


@pytest.fixture
def checkout(origin: Path, tmp_path: Path) -> Path:
    return clone(origin, tmp_path / "my checkout")


def clone(origin: Path, folder: Path) -> Path:
    git(origin, "clone", "-q", "--local", str(origin), str(folder))
    return folder


def tree(folder: Path) -> dict[str, object]:
    """What the files of a folder are, links and modes included."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.parts[0] == ".git" or (path.is_dir() and not path.is_symlink()):
            continue
        is_runnable = os.access(path, os.X_OK)
        found[str(name)] = str(path.readlink()) if path.is_symlink() else path.read_bytes()
        found[f"{name} runs"] = not path.is_symlink() and is_runnable
    return found


def changes(folder: Path, *excluded: str) -> workspace.Changes:
    found = uncommitted_changes(folder, excluded=excluded)
    assert found is not None
    return found


def edit(folder: Path) -> None:
    write(folder, {"src/net.py": b"layers = 4\n", "picture.bin": BYTES[::-1], "empty": b"full"})


def without_last_line_end(folder: Path) -> None:
    write(folder, {"src/net.py": b"layers = 3"})


def with_other_line_ends(folder: Path) -> None:
    write(folder, {"src/net.py": b"layers = 3  \r\n\tx \n", "src/new.py": b"a\r\nb \n\n\n"})


def delete(folder: Path) -> None:
    (folder / "src/net.py").unlink()
    (folder / "folder/inner.txt").unlink()
    (folder / "link").unlink()


def rename(folder: Path) -> None:
    (folder / "src/old name.py").rename(folder / "src/new name.py")


def rename_in_index(folder: Path) -> None:
    git(folder, "mv", "src/old name.py", "src/new name.py")


def make_runnable(folder: Path) -> None:
    (folder / "src/run.sh").chmod(0o755)


def turn_links(folder: Path) -> None:
    (folder / "link").unlink()
    (folder / "link").symlink_to("folder")
    (folder / "gone").symlink_to("no such file")
    (folder / "empty").unlink()
    (folder / "empty").symlink_to("src/net.py")


def file_to_folder(folder: Path) -> None:
    (folder / "empty").unlink()
    write(folder, {"empty/now/deep.py": b"1"})


def folder_to_file(folder: Path) -> None:
    (folder / "folder/inner.txt").unlink()
    (folder / "folder").rmdir()
    write(folder, {"folder": b"a file"})


def add_odd_names(folder: Path) -> None:
    names = (
        "a b.py",
        "Ä ü.py",
        'quo"te.py',
        "new\nline.py",
        "tab\t.py",
        "-f",
        ":(top)x",
        "*",
        "nul",
    )
    write(folder, {f"odd/{name}": name.encode() for name in names})
    write(folder, dict.fromkeys(names, b""))


def stage(folder: Path) -> None:
    write(folder, {"src/staged.py": b"1\n", "src/net.py": b"staged\n"})
    git(folder, "add", "-A")
    write(folder, {"src/net.py": b"and edited again\n"})


def force_an_ignored_file(folder: Path) -> None:
    write(folder, {"ignored.py": b"but wanted"})
    git(folder, "add", "--force", "ignored.py")


def untrack(folder: Path) -> None:
    git(folder, "rm", "-q", "--cached", "src/net.py")


def hide_from_git(folder: Path) -> None:
    git(folder, "update-index", "--assume-unchanged", "src/net.py")
    git(folder, "update-index", "--skip-worktree", "picture.bin")
    edit(folder)


KINDS = [
    edit,
    without_last_line_end,
    with_other_line_ends,
    delete,
    rename,
    rename_in_index,
    make_runnable,
    turn_links,
    file_to_folder,
    folder_to_file,
    add_odd_names,
    stage,
    force_an_ignored_file,
    untrack,
    hide_from_git,
]


@pytest.mark.parametrize("change", KINDS)
def test_a_patch_turns_a_clean_checkout_into_the_changed_one(change, origin, checkout, tmp_path):
    change(checkout)
    found = changes(checkout)
    assert found.left_out == []
    other = clone(origin, tmp_path / "other")
    apply_changes(other, found.patch)
    assert tree(other) == tree(checkout)


def test_what_was_changed_by_a_patch_has_that_patch(origin, checkout, tmp_path):
    edit(checkout)
    add_odd_names(checkout)
    patch = changes(checkout).patch
    other = clone(origin, tmp_path / "other")
    apply_changes(other, patch)
    assert changes(other).patch == patch


@settings(max_examples=12)
@given(
    files=st.dictionaries(st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?", fullmatch=True), st.binary())
)
def test_any_new_contents_come_back(files, origin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    changed, other = clone(origin, folder / "changed"), clone(origin, folder / "other")
    for name, content in files.items():
        path = changed / "new" / name
        if not path.is_dir() and not path.parent.is_file():
            write(changed, {f"new/{name}": content})
    apply_changes(other, changes(changed).patch)
    assert tree(other) == tree(changed)


def test_a_clean_checkout_has_an_empty_patch(checkout):
    assert changes(checkout) == (b"", [])
    apply_changes(checkout, b"")
    assert git(checkout, "status", "--porcelain") == ""


def test_a_new_time_alone_is_no_change(checkout):
    os.utime(checkout / "src/net.py", (1, 1))
    assert changes(checkout).patch == b""


def test_ignored_files_do_not_count(checkout):
    write(checkout, {"ignored.txt": b"1", "folder/ignored too": b"2"})
    assert changes(checkout) == (b"", [])


def test_excluded_paths_do_not_count(checkout):
    write(
        checkout,
        {
            "src/net.py": b"1",
            "dvc.lock": b"2",
            "reports/a/b.csv": b"3",
            "folder/inner.txt": b"4",
            "reports/large": bytes(2_000_000),
            "src/reports/kept.py": b"5",
        },
    )
    git(checkout, "add", "dvc.lock")
    patch, left_out = changes(checkout, "reports/**", "dvc.lock", "folder/**")
    named = [line for line in patch.decode().splitlines() if line.startswith("diff --git")]
    assert named == [
        "diff --git a/src/net.py b/src/net.py",
        "diff --git a/src/reports/kept.py b/src/reports/kept.py",
    ]
    assert left_out == []


def test_large_new_files_are_left_out_and_named(checkout):
    write(checkout, {"large data.bin": bytes(1_000_001), "small": bytes(1_000_000)})
    patch, left_out = changes(checkout)
    assert left_out == ["large data.bin"]
    assert b"b/small" in patch


def test_of_many_new_files_the_smallest_are_kept(checkout, monkeypatch):
    monkeypatch.setattr(workspace, "_MOST_BYTES", 250)
    write(checkout, {"a": bytes(100), "b": bytes(101), "c": bytes(99), "z": b"1"})
    patch, left_out = changes(checkout)
    assert left_out == ["b"]
    assert b"b/z" in patch


def test_a_repository_within_is_left_out_and_named(origin, checkout):
    clone(origin, checkout / "another")
    edit(checkout / "another")
    assert changes(checkout) == (b"", ["another/"])


def test_a_large_file_that_git_knows_is_kept(checkout):
    write(checkout, {"folder/inner.txt": os.urandom(1_200_000)})
    patch, left_out = changes(checkout)
    assert len(patch) > 1_200_000
    assert left_out == []


def test_submodules_do_not_count(origin, checkout):
    allowed = ("-c", "protocol.file.allow=always")
    git(checkout, *allowed, "submodule", "--quiet", "add", str(origin), "module")
    commit(checkout)
    edit(checkout / "module")
    commit(checkout / "module")
    add_odd_names(checkout / "module")
    assert changes(checkout) == (b"", [])


def test_a_project_below_the_top_of_its_repository_has_its_own_changes(origin, checkout, tmp_path):
    write(checkout, {"src/net.py": b"1", "src/new.py": b"2", "picture.bin": b"elsewhere"})
    patch, _ = changes(checkout / "src")
    other = clone(origin, tmp_path / "other")
    apply_changes(other / "src", patch)
    assert (other / "src/new.py").read_bytes() == b"2"
    assert (other / "src/net.py").read_bytes() == b"1"
    assert (other / "picture.bin").read_bytes() == BYTES


def test_people_s_settings_change_nothing(checkout):
    edit(checkout)
    rename(checkout)
    plain = changes(checkout).patch
    settings = {
        "diff.noprefix": "true",
        "diff.renames": "copies",
        "diff.external": "false",
        "diff.context": "0",
        "color.ui": "always",
        "core.quotePath": "false",
        "core.safecrlf": "true",
    }
    for name, value in settings.items():
        git(checkout, "config", name, value)
    assert changes(checkout).patch == plain


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("apply.whitespace", "error"),
        ("apply.whitespace", "fix"),
        ("apply.ignoreWhitespace", "change"),
    ],
)
def test_people_s_settings_change_no_white_space(name, value, origin, checkout, tmp_path):
    with_other_line_ends(checkout)
    patch = changes(checkout).patch
    other = clone(origin, tmp_path / "other")
    git(other, "config", name, value)
    apply_changes(other, patch)
    assert tree(other) == tree(checkout)


def test_nothing_of_the_repository_is_written_to(checkout):
    stage(checkout)
    write(checkout, {"new empty": b"", "src/new.py": b"1", "large": bytes(2_000_000)})
    before = state(checkout / ".git")
    changes(checkout)
    assert state(checkout / ".git") == before


def test_it_works_while_somebody_else_has_locked_the_index(checkout):
    edit(checkout)
    (checkout / ".git/index.lock").touch()
    assert b"layers = 4" in changes(checkout).patch


def state(folder: Path) -> dict[str, object]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).digest())
        for path in files
    }


def test_without_a_repository_nothing_is_known(tmp_path):
    assert uncommitted_changes(tmp_path, excluded=()) is None


def test_without_a_commit_nothing_is_known(tmp_path):
    git(tmp_path, "init", "-q")
    write(tmp_path, {"a": b"1"})
    assert uncommitted_changes(tmp_path, excluded=()) is None


def test_without_git_nothing_is_known(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert uncommitted_changes(checkout, excluded=()) is None


def test_a_patch_that_does_not_fit_changes_nothing(checkout, origin, tmp_path):
    edit(checkout)
    patch = changes(checkout).patch
    other = clone(origin, tmp_path / "other")
    write(other, {"src/net.py": b"other\n"})
    before = tree(other)
    with pytest.raises(InputError, match=r"cannot be applied here, found .*src/net\.py"):
        apply_changes(other, patch)
    assert tree(other) == before


def test_a_patch_that_fits_but_for_white_space_is_refused_whatever_people_s_settings(checkout):
    edit(checkout)
    patch = changes(checkout).patch
    write(checkout, {name: COMMITTED[name] for name in ("picture.bin", "empty")})
    write(checkout, {"src/net.py": b"layers  =  3\n"})
    git(checkout, "config", "apply.ignoreWhitespace", "change")
    with pytest.raises(InputError, match="cannot be applied"):
        apply_changes(checkout, patch)


NEW_FILE = """diff --git a/{name} b/{name}
new file mode 100644
--- /dev/null
+++ b/{name}
@@ -0,0 +1 @@
+1
"""
LINK_OUT = """diff --git a/out b/out
new file mode 120000
--- /dev/null
+++ b/out
@@ -0,0 +1 @@
+..
\\ No newline at end of file
"""


@pytest.mark.parametrize(
    "patch",
    [
        NEW_FILE.format(name="../escaped"),
        NEW_FILE.format(name="/tmp/escaped"),
        NEW_FILE.format(name=".git/hooks/post-checkout"),
        LINK_OUT + NEW_FILE.format(name="out/escaped"),
        "no patch at all",
    ],
)
def test_a_patch_that_leaves_the_project_is_refused(patch, checkout, tmp_path):
    before = state(tmp_path)
    with pytest.raises(InputError, match="cannot be applied"):
        apply_changes(checkout, patch.encode())
    assert state(tmp_path) == before
