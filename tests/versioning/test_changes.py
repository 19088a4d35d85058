import shutil

import pytest

from kinetrack.errors import InputError
from kinetrack.versioning.changes import (
    FolderChanges,
    find_commit,
    folder_changes,
    read_old_file,
)

from project import make_project

pytestmark = pytest.mark.slow
FOLDER = "data/videos/mine"


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """A project whose tag `before` has no data set and whose tag `first` has one."""
    project = make_project(tmp_path_factory.mktemp("changes") / "project")
    project.run("git", "tag", "before")
    for name in ("Jump/a", "Jump/b", "Jump/c", "Walk/d", "Walk/<e> é"):
        path = project.folder / FOLDER / f"{name}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    project.run("dvc", "add", "-q", FOLDER)
    project.commit("data")
    project.run("git", "tag", "first")
    return project


@pytest.fixture
def project(committed, tmp_path):
    """A copy to change, its cache too."""
    shutil.copytree(committed.folder, tmp_path / "project")
    return type(committed)(tmp_path / "project")


def changes(project, revision, folder=FOLDER):
    return folder_changes(folder, revision=revision, root=project.folder)


def test_nothing_changed(committed):
    assert changes(committed, "first") == FolderChanges([], [], [], [])


def test_added_removed_modified_and_moved_files_are_named_before_and_after_dvc_add(project):
    folder = project.folder / FOLDER
    (folder / "New").mkdir()
    (folder / "New/f.avi").write_text("f")
    (folder / "Jump/a.avi").unlink()
    (folder / "Jump/b.avi").write_text("other")
    (folder / "Walk/<e> é.avi").rename(folder / "New/<e> é.avi")
    expected = FolderChanges(
        added=["New/f.avi"],
        removed=["Jump/a.avi"],
        modified=["Jump/b.avi"],
        moved=[("Walk/<e> é.avi", "New/<e> é.avi")],
    )
    assert changes(project, "first") == expected
    project.run("dvc", "add", "-q", FOLDER)
    project.commit("more")
    assert changes(project, "HEAD~1") == expected
    assert changes(project, "HEAD") == FolderChanges([], [], [], [])


def test_before_the_data_set_was_there_every_file_is_new(committed):
    found = changes(committed, "before")
    assert (len(found.added), found._replace(added=[])) == (5, FolderChanges([], [], [], []))


def test_the_output_of_a_stage_is_compared_too(project):
    folder = project.folder / "data/videos/sample"
    (folder / "Grow").mkdir(parents=True)
    (folder / "Grow/v_1.avi").write_text("1")
    project.run("dvc", "commit", "-q", "-f", "sample")
    project.commit("sample")
    (folder / "Grow/v_1.avi").rename(folder / "Grow/v_2.avi")
    found = changes(project, "HEAD", "data/videos/sample")
    assert found == FolderChanges([], [], [], [("Grow/v_1.avi", "Grow/v_2.avi")])


def test_an_old_file_is_read_from_the_cache(project):
    path = project.folder / FOLDER / "Jump/a.avi"
    path.write_text("changed")
    found = read_old_file("Jump/a.avi", folder=FOLDER, revision="first", root=project.folder)
    assert (found, path.read_text()) == (b"Jump/a", "changed")


def test_a_version_that_is_not_in_the_cache_is_an_error_with_its_remedy(project, monkeypatch):
    # DVC keeps an index of folders it has seen outside the project, too.
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(project.folder.parent / "site"))
    shutil.rmtree(project.folder / ".dvc/cache")
    shutil.rmtree(project.folder / ".dvc/tmp", ignore_errors=True)
    (project.folder / FOLDER / "Jump/a.avi").unlink()
    pattern = f"as of first is not in the cache -> dvc fetch --all-commits {FOLDER}.dvc"
    with pytest.raises(InputError, match=f"{FOLDER}: {pattern}"):
        changes(project, "first")
    with pytest.raises(InputError, match=f"{FOLDER}/Jump/a.avi: {pattern}"):
        read_old_file("Jump/a.avi", folder=FOLDER, revision="first", root=project.folder)


@pytest.mark.parametrize(
    "revision", ["nowhere", "--help", "--since=2020-01-01", "", "first:params.yaml"]
)
def test_an_unknown_revision_is_refused(committed, revision):
    with pytest.raises(InputError, match="is no Git revision of this project"):
        find_commit(revision, root=committed.folder)


def test_a_folder_that_is_not_under_dvc_is_refused(project):
    (project.folder / "data/videos/loose/Jump").mkdir(parents=True)
    (project.folder / "data/videos/loose/Jump/a.avi").write_text("a")
    with pytest.raises(InputError, match="is not under DVC -> dvc add data/videos/loose"):
        changes(project, "first", "data/videos/loose")


def test_a_folder_that_is_not_here_is_refused(project):
    shutil.rmtree(project.folder / FOLDER)
    with pytest.raises(InputError, match=f"{FOLDER}: is not here -> dvc pull {FOLDER}.dvc"):
        changes(project, "first")
    with pytest.raises(InputError, match=r"data/videos/none: is not here$"):
        changes(project, "first", "data/videos/none")
