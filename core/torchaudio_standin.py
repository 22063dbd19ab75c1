"""A stand-in for torchaudio's compiled extension, used only where the real one cannot be loaded.

PyPI's torchaudio is linked to CUDA. Beside a CPU-only torch its shared library raises OSError at import, and
``import transformers`` and ``import encodec`` fail with it, although neither needs more than torchaudio's pure
Python part. :func:`install` puts a finder before Python's own that knows one module name,
``torchaudio._extension``: it runs the real module and, when its library does not load, leaves a module in its place
that says so (``_IS_TORCHAUDIO_EXT_AVAILABLE = False``). Where torchaudio works, nothing changes.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

EXTENSION = "torchaudio._extension"


def _refuse_alignment(function: Callable) -> Callable:
    """Replace a function that needs the compiled aligner by one that says why it is missing."""

    def refused(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError(
            f"torchaudio's {function.__name__} needs its compiled extension, which could not be loaded beside this "
            "torch. Install a torchaudio built for the same torch."
        )

    return refused


class _StandInLoader(importlib.abc.Loader):
    """Runs the real module; if its shared library does not load, fills in what pure Python callers read."""

    def __init__(self, real: importlib.abc.Loader) -> None:
        self.real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Let Python create the module, as the real loader does."""
        return self.real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the real module, or mark the extension as unavailable."""
        try:
            self.real.exec_module(module)
        except (OSError, ImportError) as error:
            module.__dict__.update(
                _IS_TORCHAUDIO_EXT_AVAILABLE=False,
                _IS_ALIGN_AVAILABLE=False,
                fail_if_no_align=_refuse_alignment,
                STANDIN_REASON=str(error),
            )


class _ExtensionFinder(importlib.abc.MetaPathFinder):
    """Finds exactly one module, torchaudio's extension, and wraps its loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the real spec with its loader wrapped, or None for every other name."""
        if fullname != EXTENSION:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _StandInLoader(spec.loader)
        return spec


def install() -> None:
    """Put the finder first in ``sys.meta_path``; calling it again changes nothing."""
    if not any(isinstance(finder, _ExtensionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ExtensionFinder())
