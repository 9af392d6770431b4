//! `errors.py`: an exception for each code.

use std::fmt::Write as _;

use crate::contract::{Contract, Shape};
use crate::python::{HEAD, constant, docstring, pascal};

const BASE: &str = r#"
"""What fails, by its code."""

from __future__ import annotations

from enum import Enum
from typing import Any, Mapping
"#;

const CLASS: &str = r#"

class PyroError(Exception):
    """What could not be done, and what to do next.

    Attributes:
        code: The stable reason; each has a class of its own.
        message: What was attempted and could not be done, in one sentence.
        cause: What lay underneath, if it helps.
        hint: What to do next.
    """

    code: ErrorCode = ErrorCode.INTERNAL

    def __init__(
        self, message: str, *, cause: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause
        self.hint = hint

    def __str__(self) -> str:
        text = self.message
        if self.cause:
            text += f" ({self.cause})"
        if self.hint:
            text += f"; {self.hint}"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        return (_error, (self.code.value, self.message, self.cause, self.hint))
"#;

const TAIL: &str = r#"

def _error(code: str, message: str, cause: str | None, hint: str | None) -> PyroError:
    """The exception of this code; one that a newer pyro has is a plain `PyroError`."""
    if code not in CLASSES:
        cause = f"{code}: {cause}" if cause else code
        return PyroError(message, cause=cause, hint=hint)
    return CLASSES[code](message, cause=cause, hint=hint)


def error_from_json(json: Mapping[str, Any]) -> PyroError:
    """The exception that a JSON error stands for."""
    return _error(json["code"], json["message"], json.get("cause"), json.get("hint"))
"#;

pub(crate) fn write(contract: &Contract) -> String {
    let Shape::Choice(codes) = &contract.types["ErrorCode"].shape else {
        panic!("the error codes are no choice")
    };
    let mut page = format!("{HEAD}{}", BASE.trim_start());
    page.push_str("\n\nclass ErrorCode(str, Enum):\n");
    page.push_str(&docstring("    ", &contract.types["ErrorCode"].about, "", &[]));
    page.push('\n');
    for code in codes {
        let _ = writeln!(page, "    {} = {:?}", constant(&code.value), code.value);
    }
    page.push_str("\n    def __str__(self) -> str:\n        return self.value\n");
    page.push_str(CLASS);
    for code in codes {
        let _ = write!(page, "\n\nclass {}(PyroError):\n", class(&code.value));
        page.push_str(&docstring("    ", &code.about, "", &[]));
        let _ = write!(page, "\n    code = ErrorCode.{}\n", constant(&code.value));
    }
    page.push_str("\n\nCLASSES: dict[str, type[PyroError]] = {\n");
    for code in codes {
        let _ = writeln!(page, "    {:?}: {},", code.value, class(&code.value));
    }
    page.push_str("}\n");
    page.push_str(TAIL);
    page.push_str("\n\n__all__ = [\n");
    let mut names: Vec<String> = codes.iter().map(|code| class(&code.value)).collect();
    names.extend(["ErrorCode", "PyroError"].map(str::to_owned));
    names.sort();
    for name in names {
        let _ = writeln!(page, "    {name:?},");
    }
    page.push_str("]\n");
    page
}

fn class(code: &str) -> String {
    format!("{}Error", pascal(code))
}
