"""The installed package against the contract that its program prints."""

from __future__ import annotations

import dataclasses
import inspect
import json
import keyword
import os
import subprocess
from enum import Enum
from typing import Any

import pytest

import pyro_workspaces
from pyro_workspaces import AsyncPyro, AsyncWorkspace, ErrorCode, Pyro, Workspace, program

CONTRACT: dict[str, Any] = json.loads(
    subprocess.run([program(), "contract", "--json"], capture_output=True, check=True).stdout
)
TYPES = CONTRACT["types"]
OPERATIONS = {operation["name"]: operation for operation in CONTRACT["operations"]}

# What is no parameter, and why.
LEFT_OUT = {
    "stdin",  # only a command that is listened to can be told something: `Workspace.exec` has it
    "path_base64",  # a path may be bytes, and so may a patch
    "from_base64",
    "to_base64",
    "patch_base64",
}
LEFT_OUT_OF = {
    ("run", "detach"),  # its workspace is deleted as soon as its command ends
    ("run", "memory_mib"),  # its one command may take what its machine may
    ("run", "cpu_percent"),
}


def parameter(field: str) -> str:
    """A word of the language gets an underscore (PEP 8)."""
    return f"{field}_" if keyword.iskeyword(field) else field


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").removeprefix("#/types/")
    return resolve(TYPES[name]) if name else schema


def fields(schema: dict[str, Any]) -> dict[str, Any]:
    """The fields of a request; those of its parts count as its own."""
    found: dict[str, Any] = {}
    for name, field in resolve(schema).get("properties", {}).items():
        if "properties" in resolve(field):
            found = {**fields(field), **found}
        else:
            found[name] = field
    return found


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("client", [Pyro, AsyncPyro])
def test_every_operation_is_a_method_with_its_fields_and_defaults(
    name: str, client: type
) -> None:
    operation = OPERATIONS[name]
    method = getattr(client, operation["method"])
    assert inspect.iscoroutinefunction(method) == (client is AsyncPyro)
    document = inspect.getdoc(method) or ""
    assert " ".join(document.split()).startswith(operation["summary"])
    parameters = inspect.signature(method).parameters
    required = resolve(operation["request"]).get("required", [])
    for field, schema in fields(operation["request"]).items():
        if field in LEFT_OUT or (name, field) in LEFT_OUT_OF:
            continue
        assert parameter(field) in parameters, f"{name} lacks {field}"
        assert f"{parameter(field)}: " in document, f"{field} of {name} is not documented"
        default = parameters[parameter(field)].default
        if field in required:
            assert default is inspect.Parameter.empty
        elif field != "argv":
            expected = schema.get("default")
            assert default == (expected if isinstance(expected, (bool, int, str)) else None)
    known = {*map(parameter, fields(operation["request"])), "self", "keep"}
    assert set(parameters) <= known, f"{name} has a parameter that no other door has"


@pytest.mark.parametrize("name", [n for n, o in OPERATIONS.items() if o["workspace_method"]])
@pytest.mark.parametrize("handle", [Workspace, AsyncWorkspace])
def test_every_operation_on_a_workspace_is_a_method_of_its_handle(
    name: str, handle: type
) -> None:
    operation = OPERATIONS[name]
    methods = [operation["workspace_method"]]
    if name == "workspace_exec":
        methods.append("run")
    given = set[str]()
    for method in methods:
        given |= set(inspect.signature(getattr(handle, method)).parameters)
    taken = set(fields(operation["request"])) - (LEFT_OUT - {"stdin"}) - {"workspace"}
    wanted = {parameter(field) for field in taken}
    assert wanted <= given, f"{handle.__name__}.{methods} lacks {wanted - given}"


def test_every_code_has_an_exception() -> None:
    assert [code.value for code in ErrorCode] == CONTRACT["error_codes"]
    for code in ErrorCode:
        name = "".join(word.capitalize() for word in code.value.split("_")) + "Error"
        assert getattr(pyro_workspaces, name).code is code


@pytest.mark.parametrize("name", TYPES)
def test_every_type_of_a_result_has_its_fields_or_words(name: str) -> None:
    schema = TYPES[name]
    known = getattr(pyro_workspaces, name, None)
    if name == "Error" or known is None:
        # The exception; the request of an operation, which is its parameters; plain text.
        requests = {o["request"].get("$ref", "").removeprefix("#/types/") for o in OPERATIONS.values()}
        assert name in requests | {"Error"} or schema["type"] in ("string", "integer")
    elif isinstance(known, type) and issubclass(known, Enum):
        words = [one["const"] for one in schema["oneOf"] if "const" in one]
        assert set(words) <= {word.value for word in known}
    elif dataclasses.is_dataclass(known):
        names = {field.name for field in dataclasses.fields(known)}
        assert {parameter(field) for field in schema.get("properties", {})} <= names
        assert all(f"{name}: " in (known.__doc__ or "") for name in names)


def test_program_and_package_have_one_version() -> None:
    assert CONTRACT["version"] == pyro_workspaces.__version__
    assert os.access(program(), os.X_OK)
