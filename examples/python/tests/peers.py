# SPDX-License-Identifier: Apache-2.0
"""verl and TRL without their dependencies: what they import and this environment lacks is a module of empty names."""
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
import warnings

DEPENDENCIES = {"accelerate", "bitsandbytes", "cachetools", "codetiming", "comet_ml", "datasets", "deepspeed",
                "dill", "huggingface_hub", "hydra", "liger_kernel", "mlflow", "omegaconf", "orjson", "pandas",
                "peft", "psutil", "pyarrow", "pydantic", "ray", "requests", "rich", "tensordict", "tqdm", "trackio",
                "transformers", "urllib3", "vllm", "wandb"}


class _Meta(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything()


class _Anything(metaclass=_Meta):
    def __new__(cls, *arguments, **keywords):
        return object.__new__(cls)

    def __init__(self, *arguments, **keywords):
        pass

    def __init_subclass__(cls, **keywords):
        pass

    def __class_getitem__(cls, item):
        return cls

    def __getattr__(self, name):
        return self

    def __add__(self, other):
        return other

    def __call__(self, *arguments, **keywords):
        return self


class _Absent(types.ModuleType):
    """A module whose names are classes that take anything and do nothing."""

    __path__: list = []
    __version__ = "0"

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Anything,), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self):
        self.missing = set()

    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if top not in DEPENDENCIES or (top not in self.missing and self._is_there(top)):
            return None
        self.missing.add(top)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def _is_there(self, top):
        sys.meta_path.remove(self)
        try:
            return importlib.util.find_spec(top) is not None
        finally:
            sys.meta_path.append(self)

    def create_module(self, spec):
        return _Absent(spec.name)

    def exec_module(self, module):
        pass


def load(name):
    """The module `name` of an installed package, whose other dependencies may be missing."""
    finder = _Finder()
    sys.meta_path.append(finder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about versions of what is not there
            return importlib.import_module(name)
    finally:
        sys.meta_path.remove(finder)
        for module in [m for m in sys.modules if m.partition(".")[0] in finder.missing]:
            del sys.modules[module]
