"""The one-way flow of imports, what the package never uses, and sizes, read from the source.

A room is a module or a folder of `rescore`. It imports only from rooms in rows above its own, or
from earlier in its own row (docs/architecture.md).
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import rescore
from rescore import registry

PACKAGE = Path(rescore.__file__).parent
RECIPES = sorted(
    path.relative_to(PACKAGE.parent) for path in (PACKAGE.parent / "recipes").rglob("*.py")
)

#: Row after row, and in each row one room after the other. A new module needs a place here.
ROWS = [
    ["types", "errors", "arguments", "installation", "registry", "interfaces"],
    ["ids", "progress", "text", "wer"],
    ["formats", "lattice"],
    ["batching", "diffusion"],
    ["models"],
    ["acoustic"],
    ["scorers", "fusion"],
    ["decoding", "train", "pipeline", "checking", "report"],
    ["experiment"],
    ["api"],
    ["cli"],
]
PLACE = {room: place for place, room in enumerate(room for row in ROWS for room in row)}

#: What a module may use because users ask for it by name: `--shard env`, NO_COLOR.
ASKED_FOR = {
    "rescore.cli.colour": "a setting read from the environment",
    "rescore.pipeline.shards": "a setting read from the environment",
}

#: The most lines of a module and of a function's body; more parameters take a record.
MODULE_LINES, BODY_LINES, PARAMETERS = 400, 40, 7

#: Functions that may have more parameters, and why. click's commands are not counted.
WIDE = {
    "rescore.api.scoring.score": "public: rescore.score of the README",
    "rescore.cli.train_network._train_network": "the body of the commands train mdlm, usdm, ar",
    "rescore.formats.transformers_output.from_transformers": "public: what generate returns",
    "rescore.formats.mapped_jsonl.read": "keywords are the options of the format",
    "rescore.lattice.formats.openfst.read": "keywords are the options of the format",
    "rescore.lattice.lattice.Lattice.from_arcs": "public: the columns of a lattice",
    "rescore.api.experiments.run": "public: rescore.run",
    "rescore.experiment.running.run": "behind rescore.run",
    "rescore.pipeline.scoring.score": "behind rescore.score of the README",
}

#: Modules whose import targets are data: the names in the registry, and the public names that
#: `rescore` imports when they are used.
BY_NAME = {"rescore", "rescore.registry"}


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(source: str, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, also in functions, under TYPE_CHECKING, by import_module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join([*above, *filter(None, [base])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield node.lineno, whole if whole in MODULES or base == "rescore" else base
        elif (
            isinstance(node, ast.Call)
            and called(node) in ("import_module", "__import__")
            and module not in BY_NAME
        ):
            yield node.lineno, text_of(node.args[0])


def called(node: ast.Call) -> str:
    return (
        node.func.id
        if isinstance(node.func, ast.Name)
        else node.func.attr
        if isinstance(node.func, ast.Attribute)
        else ""
    )


def text_of(node: ast.expr) -> str:
    """The text of a string, or the beginning of an f-string; any other name could be anything."""
    if isinstance(node, ast.JoinedStr):
        return text_of(node.values[0]).rstrip(".")
    return (
        node.value
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        else "rescore.<chosen at run time>"
    )


def room(module: str) -> str:
    return module.split(".")[1]


def misplaced(source: str, module: str, is_package: bool = False) -> list[str]:
    """One line for every import that goes the wrong way."""
    found = []
    if room(module) not in PLACE:
        return [f"{module}: the room {room(module)!r} is unknown; place it in ROWS"]
    for line, target in imports(source, module, is_package):
        if target.split(".")[0] != "rescore" or target == "rescore.__version__":
            continue
        if target == "rescore" or room(target) not in PLACE:
            found.append(
                f"{module}:{line}: imports {target}, which is no placed room; "
                "import from the module that defines it"
            )
        elif room(target) != room(module) and PLACE[room(target)] > PLACE[room(module)]:
            found.append(f"{module}:{line}: imports {target}, which lies below {room(module)}")
    return found


def forbidden(source: str) -> list[str]:
    """One line for every construct that the package never uses."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            found.append((node.lineno, "assert: raise an error that says what to do"))
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append((node.lineno, "bare except"))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
            found += [
                (node.lineno, f"{name}: data files are not code")
                for name in names
                if name.split(".")[0] in {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
            ]
            if isinstance(node, ast.ImportFrom) and node.module in ("torch", "os"):
                found += [
                    (node.lineno, f"{node.module}.{a.name}: call it by its whole name")
                    for a in node.names
                    if a.name in ("load", "environ", "getenv")
                ]
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv"):
            found.append((node.lineno, "a setting read from the environment"))
        elif isinstance(node, ast.Call):
            found += [(node.lineno, complaint) for complaint in bad_call(node)]
    return [f"line {line}: {complaint}" for line, complaint in sorted(found)]


def bad_call(node: ast.Call) -> Iterator[str]:
    is_true = {
        keyword.arg
        for keyword in node.keywords
        if isinstance(keyword.value, ast.Constant) and keyword.value.value is True
    }
    name = ast.unparse(node.func)
    if name == "zip" and "strict" not in is_true:
        yield "zip without strict=True"
    if name in ("eval", "exec"):
        yield name
    if name == "torch.load" and "weights_only" not in is_true:
        yield "torch.load without weights_only=True"
    if "allow_pickle" in is_true:
        yield "allow_pickle"


@pytest.mark.parametrize("module", [name for name in MODULES if name != "rescore"])
def test_every_import_goes_up(module):
    path = MODULES[module]
    assert misplaced(path.read_text(encoding="utf-8"), module, path.name == "__init__.py") == []


def test_no_modules_import_each_other_in_a_circle():
    graph = {
        name: {
            target
            for _, target in imports(
                path.read_text(encoding="utf-8"), name, path.name == "__init__.py"
            )
            if target in MODULES
        }
        - {name}
        for name, path in MODULES.items()
        if name != "rescore"
    }
    assert sum(map(len, graph.values())) > 50
    list(TopologicalSorter(graph).static_order())


def test_a_circle_is_found():
    with pytest.raises(CycleError):
        list(TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        (
            "rescore.types",
            "from rescore.errors import RescoreError",
            "below types",
        ),  # later in its own row
        ("rescore.formats.x", "import rescore.cli.options", "below formats"),
        (
            "rescore.formats.x",
            "def f():\n    from rescore.scorers import Scorer",
            "rescore.formats.x:2: imports rescore.scorers",
        ),
        (
            "rescore.diffusion.x",
            (
                "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from "
                "rescore.models.network import Network"
            ),
            ":3: imports rescore.models",
        ),
        ("rescore.wer", "from rescore import fusion", "imports rescore.fusion"),
        ("rescore.wer", "from . import fusion", "imports rescore.fusion"),
        (
            "rescore.formats.x",
            "from ..scorers.options import Scorer",
            "imports rescore.scorers.options",
        ),
        ("rescore.fusion", "from rescore import evaluate", "which is no placed room"),
        ("rescore.fusion", "import rescore", "which is no placed room"),
        (
            "rescore.wer",
            "from importlib import import_module\nimport_module('rescore.fusion')",
            "imports rescore.fusion",
        ),
        (
            "rescore.wer",
            "import importlib\ndef f(x):\n    importlib.import_module(x)",
            "chosen at run time",
        ),
        (
            "rescore.models.x",
            "from importlib import import_module\nimport_module(f'rescore.scorers.{name}')",
            "imports rescore.scorers",
        ),
        ("rescore.helpers", "", "the room 'helpers' is unknown"),
    ],
)
def test_the_checker_finds_an_import_that_goes_down(module, source, complaint):
    [found] = misplaced(source, module)
    assert complaint in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "rescore.wer",
            "from rescore.text import identity\nimport numpy\nfrom rescore.types import NBest",
        ),
        ("rescore.cli.x", "from rescore import fusion\nfrom rescore.cli.lists import ListReader"),
        (
            "rescore.formats.x",
            "from . import strict_json\nfrom .base import Format\nfrom ..types import NBest",
        ),
    ],
)
def test_the_checker_lets_an_import_that_goes_up_pass(module, source):
    assert misplaced(source, module) == []


@pytest.mark.parametrize("module", list(MODULES))
def test_no_module_uses_what_the_package_never_uses(module):
    assert [
        line
        for line in forbidden(MODULES[module].read_text(encoding="utf-8"))
        if not line.endswith(ASKED_FOR.get(module, "?"))
    ] == []


@pytest.mark.parametrize("path", RECIPES, ids=str)
def test_no_recipe_uses_it_either(path):
    found = forbidden((PACKAGE.parent / path).read_text(encoding="utf-8"))
    assert [
        line for line in found if not line.endswith("environment")
    ] == []  # a script may pass the environment on to a process


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("def f(x):\n    assert x", "line 2: assert"),
        ("try:\n    f()\nexcept:\n    pass", "line 3: bare except"),
        ("for a, b in zip(x, y): pass", "zip without"),
        ("zip(x, y, strict=False)", "zip without"),
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("eval('1')", "eval"),
        ("exec('1')", "exec"),
        ("torch.load(path)", "torch.load"),
        ("torch.load(path, weights_only=False)", "torch.load"),
        ("from torch import load", "torch.load"),
        ("np.load(path, allow_pickle=True)", "allow_pickle"),
        ("import os\nx = os.environ['HOME']", "environment"),
        ("x = os.getenv('HOME')", "environment"),
    ],
)
def test_the_checker_finds_what_the_package_never_uses(source, complaint):
    [found] = forbidden(source)
    assert complaint in found


def test_the_checker_lets_the_good_forms_pass():
    source = (
        "zip(x, y, strict=True)\ntorch.load(path, "
        "weights_only=True)\nnetwork.eval()\ntry:\n    f()\nexcept ValueError:\n    raise"
    )
    assert forbidden(source) == []


def test_no_room_is_called_by_what_it_is_not():
    assert not {part for module in MODULES for part in module.split(".")} & {
        "utils",
        "util",
        "helpers",
        "common",
        "misc",
    }


def oversized(source: str, module: str) -> list[str]:
    """One line for each module, body or list of parameters that is too long to read at once."""
    lines = source.count("\n")
    found = [f"{module} has {lines} lines"] if lines > MODULE_LINES else []
    for name, node in functions(ast.parse(source), module):
        length = body_lines(node)
        if length > BODY_LINES:
            found.append(f"{name} has a body of {length} lines")
        count = parameters(node)
        if count > PARAMETERS and name not in WIDE and not is_command(node):
            found.append(f"{name} has {count} parameters")
    return found


def functions(tree: ast.AST, name: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """(dotted name, function) of every function, also in classes and in functions."""
    for node in ast.iter_child_nodes(tree):
        inner = f"{name}.{node.name}" if isinstance(node, ast.ClassDef | ast.FunctionDef) else name
        if isinstance(node, ast.FunctionDef):
            yield inner, node
        yield from functions(node, inner)


def body_lines(node: ast.FunctionDef) -> int:
    """The lines of a function's body without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def parameters(node: ast.FunctionDef) -> int:
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def is_command(node: ast.FunctionDef) -> bool:
    return any("command" in ast.unparse(decorator) for decorator in node.decorator_list)


@pytest.mark.parametrize("module", list(MODULES))
def test_every_module_and_function_can_be_read_at_once(module):
    assert oversized(MODULES[module].read_text(encoding="utf-8"), module) == []


def test_every_function_that_may_be_wide_is_there():
    names = {
        name
        for module, path in MODULES.items()
        for name, _ in functions(ast.parse(path.read_text(encoding="utf-8")), module)
    }
    assert set(WIDE) <= names


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("x = 1\n" * 401, "m has 401 lines"),
        ("def f():\n" + "    x = 1\n" * 41, "m.f has a body of 41 lines"),
        ("class C:\n    def f(self, a, b, c, d, *, e, f, g, h): pass", "m.C.f has 8 parameters"),
    ],
)
def test_the_checker_finds_what_is_too_long(source, complaint):
    assert oversized(source, "m") == [complaint]


@pytest.mark.parametrize(
    "source",
    [
        "x = 1\n" * 400,
        'def f():\n    """A.\n\n    B.\n    """\n' + "    x = 1\n" * 40,
        "def f(self, a, b, c, d, e, f, g): pass\n",
        "@click.command('x')\ndef f(a, b, c, d, e, f, g, h): pass\n",
    ],
)
def test_the_checker_lets_what_is_short_enough_pass(source):
    assert oversized(source, "m") == []


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_name_in_the_registry_leads_to_an_object_of_its_type(kind):
    table, _, expected = registry.KINDS[kind]
    assert table
    module, _, wanted = expected.partition(":")
    for name in table:
        assert isinstance(
            registry.lookup(table, name, kind), getattr(importlib.import_module(module), wanted)
        ), name


def test_the_map_in_the_registry_names_what_exists():
    """The file to open first also says where names that it does not hold live."""
    for place in re.findall(r"`(rescore\.[\w.]+)`", registry.__doc__):
        module, _, name = place.rpartition(".")
        assert place in MODULES or hasattr(importlib.import_module(module), name), place
    for path in re.findall(r"`(rescore/[\w/.]+)`", registry.__doc__):
        assert (PACKAGE.parent / path).is_file(), path
    tables = [name for name in registry.__all__ if name.isupper() and name != "KINDS"]
    assert all(re.search(rf"^    {name} ", registry.__doc__, re.MULTILINE) for name in tables)


def test_every_table_of_the_registry_is_checked_above():
    tables = {
        name: value
        for name, value in vars(registry).items()
        if isinstance(value, dict) and name.isupper() and name != "KINDS"
    }
    assert [id(table) for table, _, _ in registry.KINDS.values()] == [
        id(table) for table in tables.values()
    ]
    assert set(tables) < set(registry.__all__)


def test_every_public_name_leads_somewhere():
    for name in rescore.__all__:
        assert callable(getattr(rescore, name)), name
        assert name in dir(rescore)
    assert set(rescore.__all__) == set(rescore._HOME)
    with pytest.raises(AttributeError, match="has no attribute 'magic'"):
        rescore.magic  # noqa: B018


def test_nothing_loads_torch_before_a_network_is_needed():
    commands = [
        "posteriors",
        "convert",
        "check",
        "score",
        "tune",
        "sweep",
        "fuse",
        "eval",
        "run",
        "compare",
        "show",
        "report",
        "models",
        "formats",
        "train",
        "plugins",
        "completion",
    ]
    code = f"""
import sys
import rescore
assert "torch" not in sys.modules, "import rescore"
from rescore.cli import cli
cli.main(["--help"], standalone_mode=False)
assert "torch" not in sys.modules and "numpy" not in sys.modules, "dlmrescore --help"
for command in {commands}:
    cli.main([command, "--help"], standalone_mode=False)
    assert "torch" not in sys.modules, command
for command in ["models"], ["plugins"], ["completion", "zsh"]:
    cli.main(command, standalone_mode=False)
    assert "torch" not in sys.modules, command
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "diffusion language models" in done.stdout


def test_every_module_can_be_imported_first():
    for module in MODULES:
        assert importlib.import_module(module).__doc__, module
