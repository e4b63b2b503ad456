"""Merge layers of settings into one checked configuration.

A later layer overrides an earlier one: defaults, the user's config file, `templora.toml` in the working
folder, flags. All errors of all layers are reported together, each with its source.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields, replace
from typing import Any, get_type_hints

from templora_cli.config import RECIPES, TABLES, TASK_DEFAULTS, TASK_OVERRIDES, Config
from templora_cli.errors import TemploraError

NOT_IN_RECIPES = ("learn", "gradient_checkpointing")
"""Settings of `[train]` that a recipe leaves unchanged."""
TEXTS = tuple[str, ...]
TYPES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    TEXTS: "a list of texts",
}
ALL_SETTINGS = "docs/configuration.md explains all settings"


@dataclass(frozen=True)
class Layer:
    """Settings from one source: `values` nested as in TOML, with functions that label them in messages."""

    values: Mapping[str, Any]
    label: Callable[[str, str], str]
    """The name of a setting, from its table and key."""
    assignment: Callable[[str, str, Any], str]
    """A setting with its value, from table, key and value, as the user wrote it."""

    @staticmethod
    def of_file(name: str, values: Mapping[str, Any]) -> Layer:
        """Settings of a TOML file, labelled like `name: [decode] top_p`."""

        def label(table: str, key: str) -> str:
            return f"{name}: {f'[{table}] ' if table else ''}{key}"

        return Layer(values, label, lambda table, key, value: f"{label(table, key)} = {value!r}")

    @staticmethod
    def of_flags(
        values: Mapping[str, Any],
        names: Mapping[tuple[str, str], str],
        typed: Mapping[tuple[str, str], str] | None = None,
    ) -> Layer:
        """Settings of the command line; `names` maps (table, key) to a flag, `typed` to an argument such as
        `--set rank=8`.
        """
        arguments = typed or {}

        def label(table: str, key: str) -> str:
            flag = names.get((table, key), f"--{key.replace('_', '-')}")
            return arguments.get((table, key), flag)

        def assignment(table: str, key: str, value: Any) -> str:
            return arguments.get((table, key), f"{label(table, key)} {value}")

        return Layer(values, label, assignment)


@dataclass(frozen=True)
class _Issue:
    """An error in words, and the values that the setting can have."""

    text: str
    allowed: str = ""


def resolve(layers: list[Layer], task: str = "novel") -> Config:
    """Merge `layers` over the defaults of the task, in order, then apply `TASK_OVERRIDES`.

    A layer that names a recipe resets `[train]`, `[human]`, `[generated]`, `[gate]` and the size of the
    chunk to that recipe, so that `--recipe paper` gives the paper's values whatever the files say.

    Raises TemploraError that lists every unknown key, wrong type and value out of range.
    """
    issues: list[_Issue] = []
    defaults = TASK_DEFAULTS.get(task, {})
    merged: dict[str, dict[str, Any]] = {"": {}, **{table: dict(defaults.get(table, {})) for table in TABLES}}
    for layer in layers:
        valid = _valid_values(layer, issues)
        if "recipe" in valid["train"]:
            _apply_recipe(merged, RECIPES[valid["train"]["recipe"]], defaults)
        for table, values in valid.items():
            merged[table].update(values)
    if issues:
        raise _error_of(issues)
    tables = {name: make(**merged[name]) for name, make in TABLES.items()}
    for (table, key), (task_table, task_key) in TASK_OVERRIDES.get(task, {}).items():
        tables[table] = replace(tables[table], **{key: getattr(tables[task_table], task_key)})
    return replace(Config(**tables), **merged[""])


def _apply_recipe(
    merged: dict[str, dict[str, Any]],
    recipe: Mapping[str, Mapping[str, Any]],
    defaults: Mapping[str, Mapping[str, Any]],
) -> None:
    """Reset the tables in `merged` that a recipe determines to the defaults of the task and the recipe."""
    unaffected = {k: v for k, v in merged["train"].items() if k in NOT_IN_RECIPES}
    merged["train"] = {**unaffected, **recipe.get("train", {})}
    for name in ("human", "generated", "gate"):
        merged[name] = {**defaults.get(name, {}), **recipe.get(name, {})}
    merged["decode"].update(recipe.get("decode", {}))


def _error_of(issues: list[_Issue]) -> TemploraError:
    if len(issues) > 1:
        message = f"{len(issues)} settings are wrong:" + "".join(f"\n  {issue.text}" for issue in issues)
        advice = "correct or remove them"
    else:
        (issue,) = issues
        message = issue.text
        advice = issue.allowed or "correct or remove it"
    return TemploraError(message, f"{advice}; {ALL_SETTINGS}")


def allowed_values(field: Field[Any], expected: Any) -> str:
    """The values that a setting can have, and its default, in words."""
    low, above, high = (field.metadata[name] for name in ("at_least", "above", "at_most"))
    words = TYPES[expected]
    if field.metadata["choices"]:
        words = f"one of {', '.join(field.metadata['choices'])}"
    elif low is not None:
        words += f", {low} or more" if high is None else f" from {low} to {high}"
    elif above is not None:
        words += f" above {above}{'' if high is None else f', at most {high}'}"
    default = field.default
    if isinstance(default, (bool, tuple)):
        default = json.dumps(default, ensure_ascii=False)
    return f"{field.name} is {words}" + ("" if default in (None, "") else f"; the default is {default}")


def settings(values: Mapping[str, Any], task: str = "novel") -> Config:
    """The configuration of a task from values nested as in TOML. The user's files are not read.

    Raises TemploraError as `resolve` does.
    """
    return resolve([Layer.of_file("settings", values)], task)


def from_dict(values: Mapping[str, Any], source: str) -> Config:
    """The configuration from the values of `as_dict`; `source` names it in messages."""
    try:
        return resolve([Layer.of_file(source, values)])
    except TemploraError as error:
        raise TemploraError(error.message, f"restore the original {source}") from None


def _valid_values(layer: Layer, issues: list[_Issue]) -> dict[str, dict[str, Any]]:
    """The valid values of a layer by table ("" for the top level); errors are added to `issues`."""
    valid: dict[str, dict[str, Any]] = {"": {}, **{table: {} for table in TABLES}}
    for name, value in layer.values.items():
        if name not in TABLES:
            _check("", name, value, layer, valid=valid[""], issues=issues)
        elif not isinstance(value, Mapping):
            issues.append(_Issue(f"{layer.label('', name)}: must be a table of settings, not {value!r}"))
        else:
            for key, setting in value.items():
                _check(name, key, setting, layer, valid=valid[name], issues=issues)
    return valid


def _check(
    table: str, key: str, value: Any, layer: Layer, *, valid: dict[str, Any], issues: list[_Issue]
) -> None:
    """Add a setting to `valid`, converted to its type, or its error to `issues`."""
    owner = TABLES.get(table, Config)
    by_name = {f.name: f for f in fields(owner) if "help" in f.metadata}
    if key not in by_name:
        names = sorted([*by_name, *(TABLES if owner is Config else ())])
        homes = [
            f"[{name}]" for name, other in TABLES.items() if key in {field.name for field in fields(other)}
        ]
        remedy = f"it belongs in {' or '.join(homes)}" if homes else f"possible are {', '.join(names)}"
        issues.append(_Issue(f"{layer.label(table, key)}: unknown setting; {remedy}"))
        return
    assignment, expected = layer.assignment(table, key, value), get_type_hints(owner)[key]
    allowed = allowed_values(by_name[key], expected)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    choices = by_name[key].metadata["choices"] or ()
    if isinstance(value, bool) and "on" in choices:
        value = "on" if value else "off"
    is_typed = type(value) is expected
    if expected == TEXTS and isinstance(value, (list, tuple)):
        value, is_typed = tuple(value), all(isinstance(text, str) for text in value)
    if not is_typed and not choices:
        issues.append(_Issue(f"{assignment}: must be {TYPES[expected]}", allowed))
    elif problem := _range_error(value, by_name[key].metadata):
        issues.append(_Issue(f"{assignment}: {problem}", allowed))
    else:
        valid[key] = value


def _range_error(value: Any, limits: Mapping[str, Any]) -> str | None:
    """Why `value` is outside of the range of a field; None if it is inside."""
    if limits["choices"] is not None:
        return None if value in limits["choices"] else f"must be one of {', '.join(limits['choices'])}"
    if isinstance(value, tuple):
        return "must have no empty text" if "" in value else None
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    if limits["at_least"] is not None and value < limits["at_least"]:
        return f"must be at least {limits['at_least']}"
    if limits["above"] is not None and value <= limits["above"]:
        return f"must be above {limits['above']}"
    if limits["at_most"] is not None and value > limits["at_most"]:
        return f"must be at most {limits['at_most']}"
    return None
