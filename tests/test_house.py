"""What holds the parts in step: dvc.yaml, imports, params, presets, README, command line."""

import ast
import hashlib
import re
from functools import cache
from pathlib import Path

import grimp
import pytest
import yaml
from ruamel.yaml import YAML
from typer.testing import CliRunner

from kinetrack.cli.check import AllParams, read_params
from kinetrack.cli.main import app
from kinetrack.params import SECTIONS, TOP_LEVEL, load_params

ROOT = Path(__file__).parent.parent
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = ["sample", "frames", "split", "tensors", "train", "evaluate"]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
# They alter no output: a renamed tag must not train again for hours (DESIGN: the house's rules).
OPENED_BY_STAGES = ("kinetrack.tracking", "kinetrack.using.serving")


@cache
def import_graph() -> grimp.ImportGraph:
    return grimp.build_graph("kinetrack", cache_dir=None)


def import_closure(module: str) -> set[str]:
    """Modules that importing `module` runs, packages and imports inside functions included."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name in found or name.startswith(OPENED_BY_STAGES):
            continue
        found.add(name)
        waiting += import_graph().find_modules_directly_imported_by(name)
        waiting += [name.rpartition(".")[0]] if "." in name else []
    return found


def source_of(module: str) -> str:
    path = "src/" + module.replace(".", "/")
    return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"


def test_dvc_yaml_has_the_six_stages_in_order():
    assert list(PIPELINE["stages"]) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_code_deps_equal_the_import_closure(stage):
    deps = {dep for dep in PIPELINE["stages"][stage]["deps"] if dep.startswith("src/")}
    assert deps == {source_of(name) for name in import_closure(f"kinetrack.stages.{stage}")}


@pytest.mark.parametrize("stage", STAGES)
def test_cmd_shows_the_data_that_the_stage_reads_and_writes(stage):
    entry = PIPELINE["stages"][stage]
    prefix, _, arguments = entry["cmd"].partition(f"kinetrack.stages.{stage} ")
    assert prefix == "PYTHONPATH=src python -m "
    reports = [*entry.get("plots", []), *entry.get("metrics", [])]
    reports += [out for out in entry.get("outs", []) if isinstance(out, dict)]
    outputs = [out for out in entry.get("outs", []) if isinstance(out, str)]
    outputs += [path for report in reports for path in report]
    paths = [dep for dep in entry["deps"] if not dep.startswith("src/")] + outputs
    for path in paths:
        assert any(path.startswith(argument) for argument in arguments.split()), path


def test_every_params_section_has_an_owner_in_dvc_yaml():
    keys = (key for stage in PIPELINE["stages"].values() for key in stage["params"])
    owned = {key.partition(".")[0] for key in keys}
    assert owned == set(SECTIONS)
    assert AllParams._fields == TOP_LEVEL


def test_params_yaml_is_the_default_preset():
    assert (ROOT / "params.yaml").read_text() == (ROOT / "presets/sample.yaml").read_text()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_preset_is_valid_and_has_the_same_keys(preset):
    read_params(preset)
    assert keys_of(preset) == keys_of(PRESETS[0])


def keys_of(path: Path) -> set[str]:
    values = yaml.safe_load(path.read_text())
    nested = {
        f"{name}.{key}"
        for name, value in values.items()
        if isinstance(value, dict)
        for key in value
    }
    return nested | set(values)


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_line_says_what_dvc_yaml_says(stage):
    result = CliRunner().invoke(app, [stage, "--help"])
    assert PIPELINE["stages"][stage]["desc"] in " ".join(result.stdout.split())


def test_help_lists_commands_in_the_order_of_use():
    screen = CliRunner().invoke(app, ["--help"]).stdout
    places = [screen.index(f" {name} ") for name in ("check", *STAGES, "track", "summary", "ui")]
    assert places == sorted(places)


def test_readme_names_every_stage_preset_and_make_target():
    readme = (ROOT / "README.md").read_text()
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    wanted = [f"`{stage}`" for stage in STAGES] + [f"make {target}" for target in targets]
    wanted += [f"`{path.stem}`" for path in PRESETS]
    assert [word for word in wanted if word not in readme] == []


def test_architecture_page_names_every_stage_and_room():
    page = (ROOT / "docs/architecture.md").read_text()
    rooms = [path.parent.name for path in (ROOT / "src/kinetrack").glob("*/__init__.py")]
    files = [path.name for path in (ROOT / "src/kinetrack").glob("[!_]*.py")]
    wanted = [f"| `{stage}` |" for stage in STAGES] + [f"  {room}/" for room in rooms] + files
    assert [word for word in wanted if word not in page] == []


def test_every_params_key_is_documented_where_it_is_declared():
    for section in SECTIONS:
        kind = AllParams.__annotations__[section]
        lacking = [name for name, field in kind.model_fields.items() if not field.description]
        assert lacking == [], section


# Nobody has to scroll to read a function, and a module is about one thing.
MOST_LINES = {"function": 60, "module": 300}
MODULES = sorted((ROOT / "src/kinetrack").rglob("*.py"))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def find_definitions(node: ast.AST, *, public_only: bool = False):
    """Functions and classes below a node; of public ones, those that others can reach by name."""
    for child in ast.iter_child_nodes(node):
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function or isinstance(child, ast.ClassDef):
            if public_only and child.name.startswith("_"):
                continue
            yield child
            if public_only and is_function:
                continue
        yield from find_definitions(child, public_only=public_only)


def test_no_module_and_no_function_is_long():
    longest = {}
    for path in MODULES:
        name = path.relative_to(ROOT).as_posix()
        longest[name] = ("module", len(path.read_text().splitlines()))
        for one in find_definitions(parse(path)):
            if not isinstance(one, ast.ClassDef):
                longest[f"{name}: {one.name}"] = ("function", one.end_lineno - one.lineno + 1)
    assert len(longest) > 1000
    assert {x: size for x, (kind, size) in longest.items() if size > MOST_LINES[kind]} == {}


def test_every_module_and_every_public_name_has_a_docstring():
    lacking = []
    for path in MODULES:
        for one in (parse(path), *find_definitions(parse(path), public_only=True)):
            if not ast.get_docstring(one):
                lacking.append(f"{path.relative_to(ROOT)}: {getattr(one, 'name', 'module')}")
    assert lacking == []


# What changes files by other means than `kinetrack.files`, and why that is right there.
WRITES_OTHERWISE = {
    "cluster.py": "the shared folder of a cluster, removed with it",
    "cli/gc.py": "takes away what it has listed, and says what it could not",
    "cli/importing.py": "a data set on its way in: all of it is removed after an error",
    "cli/past.py": "files of other commits, in a temporary folder",
    "cli/pull_model.py": "renames within the atomic_folder of the model",
    "cli/report/of_run.py": "params of a run, in a temporary folder",
    "cli/reproduce.py": "a checkout of its own, made and removed as a whole",
    "cli/changes.py": "files of other commits, in a temporary folder",
    "cli/forget/clips.py": "takes away what it has listed",
    "collecting/archives.py": "unpacks into a folder that is removed after an error",
    "collecting/gathering.py": "moves within the folder of an import",
    "data/encoding.py": "PyAV, into memory",
    "data/tensors.py": "torch.save, into the open file of atomic_file",
    "learning/models/pretrained.py": "torchvision's own download into torch's own cache",
    "tracking/fetching.py": "renames within the atomic_folder of the model",
    "tracking/projection.py": "a file for MLflow to take, in a temporary folder",
    "tracking/database.py": "SQLite writes the new database under another name, which is renamed",
    "tracking/upgrading.py": "SQLite again: a copy is upgraded and takes the place of the first",
    "using/drawing.py": "PyAV, into the open file of atomic_file",
    "using/scratch.py": "private folders for moments, removed at the end of the process too",
    "versioning/checkout.py": "a checkout of its own, made and removed as a whole",
    "versioning/garbage.py": "removes objects of DVC's cache; holds DVC's own lock",
    "versioning/workspace.py": "objects of Git in a temporary folder",
}
_CHANGES = {"write_text", "write_bytes", "rename", "unlink", "rmdir", "mkdir", "touch"}
_CHANGES |= {"rmtree", "move", "copyfile", "copytree", "copy2", "save_file"}


def changes_files(call: ast.Call) -> bool:
    """Whether a call looks like one that changes a file system."""
    if not isinstance(call.func, ast.Attribute):
        return False
    name, owner = call.func.attr, ast.unparse(call.func.value)
    if name == "replace":  # of a path: text has two arguments
        return owner == "os" or (len(call.args) == 1 and not call.keywords)
    if name == "open":
        modes = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
        return any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes[:1])
    return name in _CHANGES or (owner, name) == ("torch", "save")


def test_everything_that_is_written_goes_through_files():
    """Or is named with its reason: only then do the tests of failing disks say something of it."""
    root = ROOT / "src/kinetrack"
    found = set()
    for path in sorted(root.rglob("*.py")):
        calls = [x for x in ast.walk(ast.parse(path.read_text())) if isinstance(x, ast.Call)]
        if any(map(changes_files, calls)):
            found.add(path.relative_to(root).as_posix())
    assert found - {"disk.py", "files.py"} == set(WRITES_OTHERWISE)


def test_dvc_lock_was_made_by_this_code_and_these_params():
    """After a change: `make repro`, or `dvc commit` when it changes no result; then commit both."""
    lock = YAML(typ="safe").load(ROOT / "dvc.lock")["stages"]  # DVC's YAML 1.2
    assert list(lock) == STAGES
    for stage, entry in lock.items():
        code = {dep["path"]: dep["md5"] for dep in entry["deps"] if dep["path"].startswith("src/")}
        found = {path: hashlib.md5((ROOT / path).read_bytes()).hexdigest() for path in code}
        assert code == found, stage
        params = load_params(ROOT / "params.yaml")
        wanted = {name: name.partition(".") for name in PIPELINE["stages"][stage]["params"]}
        assert entry["params"]["params.yaml"] == {
            name: params[section][key] if key else params[section]
            for name, (section, _, key) in wanted.items()
        }
