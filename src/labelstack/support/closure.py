"""Which modules of a package a function can run, and a digest of what their code says."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from functools import cache, cached_property
from pathlib import Path

from labelstack.support.errors import UserError

_PACKAGE = Path(__file__).parents[1]
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_NAMED = re.compile(r"\blabelstack(?:\.[A-Za-z_]\w*)+")


class Sources:
    """The source files of a package, as the imports in them tie them together.

    Parameters
    ----------
    package : Path
        Folder of the package, whose name is the first part of every module's, or the one file of a module.
    """

    def __init__(self, package: Path = _PACKAGE) -> None:
        self.package = package
        self._trees: dict[str, ast.Module] = {}
        self._imports: dict[str, frozenset[str]] = {}
        self._followed: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        self._digests: dict[str, str] = {}

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Module name → file."""
        found = {}
        for file in (file for file in self._files if file.suffix == ".py"):
            parts = file.relative_to(self.package.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
        return found

    def imports(self, module: str) -> frozenset[str]:
        """Modules of the package that a module names: in imports anywhere in it, or in texts that start a process.

        Imports for type checkers alone do not count, but where a module hands out names when asked. A folder's own file
        counts for whatever lies in the folder, unless it only hands out names of its files, and but for the package's,
        which holds no more than its version.
        """
        if module not in self._imports:
            found = {known for name in self._named(module) if (known := self.known(name))}
            folder = module.rpartition(".")[0]
            if folder not in {"", self.package.name} and not _only_imports(self._tree(folder)):
                found.add(folder)
            self._imports[module] = frozenset(found)
        return self._imports[module]

    def closure(self, roots: Iterable[str], apart: Collection[str] = ()) -> list[str]:
        """Modules that ``roots`` reach, themselves included, in alphabetical order.

        Parameters
        ----------
        apart : collection of str
            Modules and packages that are neither counted nor followed, unless they are roots.

        Raises
        ------
        ValueError
            When a root is no module of the package.
        """
        todo, left_out = list(roots), tuple(apart)
        if unknown := [root for root in todo if root not in self.modules]:
            raise ValueError(f"no such modules: {', '.join(unknown)}")
        seen: set[str] = set()
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                if (module, left_out) not in self._followed:
                    followed = [name for name in self.imports(module) if not beneath(name, left_out)]
                    self._followed[module, left_out] = followed
                todo += self._followed[module, left_out]
        return sorted(seen)

    def named_of(self, other: Sources) -> set[str]:
        """Modules of another package that this one names anywhere."""
        named = {name for module in self.modules for name in self._named(module)}
        return {known for name in named if (known := other.known(name))}

    @cached_property
    def bytes_digest(self) -> str:
        """SHA-256 over the bytes of all files, and Python's version, by which syntax trees are written down."""
        whole = hashlib.sha256(sys.version.encode())
        for module, file in self.modules.items():
            whole.update(f"{module} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        return whole.hexdigest()

    def digest(self, modules: Iterable[str]) -> str:
        """16 hex digits over what the modules' code does: comments, docstrings and layout do not count."""
        whole = hashlib.sha256()
        for module in sorted(modules):
            if module not in self._digests:
                text = ast.dump(_without_docstrings(self._tree(module)))
                self._digests[module] = hashlib.sha256(text.encode()).hexdigest()
            whole.update(f"{module} {self._digests[module]}\n".encode())
        return whole.hexdigest()[:16]

    @cached_property
    def whole_digest(self) -> str:
        """16 hex digits over what all code does, as ``digest``, and over the bytes of all other files."""
        whole = hashlib.sha256(self.digest(self.modules).encode())
        for file in (file for file in self._files if file.suffix != ".py"):
            name = file.relative_to(self.package.parent).as_posix()
            whole.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        return whole.hexdigest()[:16]

    def known(self, name: str) -> str | None:
        """The longest beginning of a dotted name that is a module."""
        while name and name not in self.modules:
            name = name.rpartition(".")[0]
        return name or None

    @cached_property
    def _files(self) -> list[Path]:
        if self.package.is_file():
            return [self.package]
        files = (file for file in sorted(self.package.rglob("*")) if file.is_file())
        return [file for file in files if "__pycache__" not in file.parts and file.suffix != ".pyc"]

    def _named(self, module: str) -> set[str]:
        return set(_imported(self._tree(module))) | set(_named_in_texts(self._tree(module)))

    def _tree(self, module: str) -> ast.Module:
        if module not in self._trees:
            self._trees[module] = ast.parse(self.modules[module].read_bytes())
        return self._trees[module]


@cache
def sources() -> Sources:
    """The source files of labelstack itself, read once."""
    return Sources()


def installed(name: str) -> list[Sources]:
    """The source files of an installed package or module (of each part of a namespace), found without importing it.

    Raises
    ------
    UserError
        When there is none, or it is no file.
    """
    spec = importlib.util.find_spec(name)
    places = [] if spec is None else list(spec.submodule_search_locations or filter(None, [spec.origin]))
    if not places or not all(Path(place).exists() for place in places):
        raise UserError(
            f"{name}: no package of this name is installed as files, so a plug-in's code cannot be told apart"
        )
    return [Sources(Path(place)) for place in places]


def beneath(module: str, names: Collection[str]) -> bool:
    """Whether a module is one of ``names``, or lies in a package among them."""
    parts = module.split(".")
    return any(".".join(parts[:n]) in names for n in range(1, len(parts) + 1))


def _only_imports(tree: ast.Module) -> bool:
    """Whether a file does nothing but import, at once or when asked, and say which names it hands out."""
    handed_out = ("__all__", "_FILES") if _asks_late(tree) else ("__all__",)
    return all(
        isinstance(node, ast.Import | ast.ImportFrom)
        or _for_type_checkers(node)
        or (isinstance(node, ast.FunctionDef) and node.name == "__getattr__")
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in handed_out)
        for node in tree.body
    )


def _asks_late(tree: ast.AST) -> bool:
    """Whether a module imports what it hands out when that is first asked for (PEP 562)."""
    return any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in ast.iter_child_nodes(tree))


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _imported(tree: ast.AST) -> Iterator[str]:
    late = _asks_late(tree) and isinstance(tree, ast.Module)  # then type checkers are told what it hands out
    for node in ast.iter_child_nodes(tree):
        if _for_type_checkers(node) and not late:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from _imported(node)


def _named_in_texts(tree: ast.Module) -> Iterator[str]:
    docstrings = {id(text) for _, text in _docstrings(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield from _NAMED.findall(node.value)


def _docstrings(tree: ast.AST) -> Iterator[tuple[_Documented, ast.Constant]]:
    for node in ast.walk(tree):
        if isinstance(node, _Documented) and node.body and isinstance(node.body[0], ast.Expr):
            text = node.body[0].value
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield node, text


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node, _ in list(_docstrings(tree)):
        del node.body[0]
    return tree
