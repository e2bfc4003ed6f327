"""From command line and YAML to a Config, and back. jsonargparse parses, pydantic validates."""

import locale
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import yaml
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import register_type
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pipeline.config.errors import BadInput
from pipeline.config.omm import Omm
from pipeline.config.tree import Config

warnings.filterwarnings("ignore", module="jsonargparse")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # that in C takes a seventh of the time
# Of a run's config.yaml, which may come from elsewhere: it takes 4 kB, and lies three deep. The parser in C ends the
# process at some depth, and takes time by its square; so do the figures of a sexagesimal number.
_MOST_CHARACTERS, _DEEPEST = 256 << 10, 50
register_type(datetime, datetime.isoformat, datetime.fromisoformat)


def _omm_path(given: object) -> Path:
    """Absolute, for jsonargparse stands in the folder of the file that names it; pydantic reads it later."""
    if not isinstance(given, str):
        raise ValueError("one keyword cannot be changed alone; give the path of a file, or all keywords as a mapping")
    return Path(given).expanduser().absolute()


register_type(
    Omm,
    serializer=lambda given: str(given) if isinstance(given, Path) else given,
    deserializer=_omm_path,
    type_check=lambda given, _: isinstance(given, (Omm, dict, Path)),
)


def _path(given: object) -> Path:
    if not isinstance(given, (str, Path)) or not str(given):  # as of a variable of the shell that is not set
        raise ValueError(f"{given!r}: no path; name a file or folder")
    return Path(given).expanduser()


register_type(Path, str, _path)


class _Parser(ArgumentParser):
    """Raises BadInput, in one line, where argparse would print usage and exit."""

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        raise BadInput(_one_line(message)) from ex


@cache  # to make one takes half as long as all else that `load` does
def parser(prog: str = "train.py run") -> ArgumentParser:
    """The parser of every key of Config: --config FILE, --KEY VALUE, --print_config, --help."""
    made = _Parser(
        prog=prog,
        allow_abbrev=False,
        description="Every key can stand in the YAML file or, as --section.key VALUE, here.",
    )
    made.add_argument("--config", action="config", help="YAML file; sections may name other files, relative to it")
    made.add_class_arguments(Config, None)
    return made


def load(arguments: Sequence[str], prog: str = "train.py run") -> Config:
    """The configuration that `arguments` describe.

    Raises:
        BadInput: naming the key, the value and what would be right.
    """
    made = parser(prog)
    try:
        with _read_as_utf8():
            parsed = made.parse_args(list(arguments))
            for name in filter(None, (path[:-1] for path in _sections(Config).values())):
                if not isinstance(parsed[name], Namespace):
                    raise BadInput(f"{name}: {parsed[name]}: no section; give its keys, or leave it out")
            values = vars(made.instantiate(parsed))
            config = Config(**{key: values[key] for key in Config.model_fields})
            return _as_given(config, made.parse_args(list(arguments), defaults=False)) if config.init_from else config
    except ValidationError as error:
        raise BadInput(_invalid(error)) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"config: not UTF-8 text at byte {error.start}; give a YAML file") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists within lists
        raise BadInput(f"config: {_one_line(str(error))}; give a YAML file") from error


@contextmanager
def _read_as_utf8() -> Iterator[None]:
    """YAML is UTF-8, but jsonargparse opens files in the encoding of the locale."""
    before = locale.setlocale(locale.LC_CTYPE)
    with suppress(locale.Error):
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    try:
        yield
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def _as_given(config: Config, given: Namespace) -> Config:
    """The same configuration, but what `init_from` may decide, and what follows from that, is as it was given: null
    where it follows, and `model_fields_set` tells it from a default."""
    sections = {name: getattr(config, name) for name in ("model", "corpus", "train", "optimizer")}
    marked = {
        name: type(section)(**{key: getattr(section, key) for key in vars(given.get(name, Namespace()))})
        for name, section in sections.items()
    }
    return config.model_copy(update=marked)


def _sections(model: type[BaseModel], path: str = "") -> dict[str, str]:
    """Class name to dotted key, so that a message about class Array names satellite.array."""
    found = {model.__name__: path}
    for key, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= _sections(field.annotation, f"{path}{key}.")
    return found


def _invalid(error: ValidationError) -> str:
    """`key: value: what would be right` for the first thing that is wrong."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    key = _sections(Config).get(error.title, "") + ".".join(map(str, first["loc"]))
    try:
        given = f"{first['input']!r:.200}"
    except ValueError:  # Python writes no number of more than 4,300 digits
        given = "a number of thousands of digits"
    return f"{key:.200}: {given}: {message[0].lower()}{message[1:]}"


def _nullable(key: str, value: Any) -> str:
    """What is wrong with the value of a key that may be null: jsonargparse lists all that each type has against it."""
    section: type[BaseModel] = Config
    *sections, name = key.split(".")
    for each in sections:
        section = cast(type[BaseModel], section.model_fields[each].annotation)
    field = section.model_fields[name]
    if Path in get_args(field.annotation):
        return f"{key}: {value!r}: no path; name a file or folder, or null"
    kind: Any = Annotated[field.annotation, field]
    made = TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False))
    try:
        made.validate_python(value)
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"]
        return f"{key}: {value}: {said[0].lower()}{said[1:]}, or null"
    return f"{key}: {value}: not of its kind; `train.py run --help` says what it is"


def _one_line(message: str) -> str:
    """jsonargparse's message in the same form, without pydantic's counts, types and links."""
    # What is wrong in the file of a section stands within what is wrong with the section.
    message = re.sub(r'^Parser key "[^"]+":\s+Unable to load config [^\n]*\s+- (?=Parser key "[^"]+\.)', "", message)
    key = re.match(r'Parser key "([^"]+)":', message)
    given = re.search(r"Given value type: <class '(\w+)'>\s+Given value: ([^\n]*)\Z", message)
    if key and given and "Union subtypes" in message:
        return _nullable(key[1], given[2] if given[1] == "str" else yaml.safe_load(given[2]))
    if file := re.search(r"Unable to load config ['\"]([^'\"]*)['\"]\s+- (?!Parser key)(.*)", message, re.DOTALL):
        return f"{key[1] if key else 'config'}: {file[1]}: no YAML: {' '.join(file[2].split())}"
    if file := re.search(r"Unable to load config ['\"]([^'\"]*)['\"]", message):
        return f"{key[1] if key else 'config'}: {file[1]}: not there; give the path of a YAML file"
    if other := re.match(r"Group '([^']+)' does not accept option '([^']+)'", message):
        return f"{other[1]}.{other[2]}: no such key; `train.py run --help` lists every key"
    value = re.search(r"Got value: (.*)$", message, re.DOTALL)
    message = re.sub(r"\s*For further information visit \S+", "", message)
    message = re.sub(r"\d+ validation errors? for [^\n]*\n", "", message)
    message = re.sub(r"Not of type \w+: ", "", message)
    message = re.sub(r"\[type=[^\n]*?\](?=[.\s]|$)", "", message)
    message = re.sub(r"^Parser key \"[^\"]+\":|Got value: .*$", "", message, flags=re.DOTALL)
    message = re.sub(r"\s+", " ", message.replace("typing.", "").replace("Value error, ", "")).strip(" .")
    if re.match(r"(Option|unrecognized)", message):
        message += "; `train.py run --help` lists every key"
    parts = [key[1] if key else "", re.sub(r"\s+", " ", value[1]) if value else "", message]
    return ": ".join(part for part in parts if part)


def load_file(path: Path, instead: dict[str, Any] | None = None) -> Config:
    """The configuration saved with a run (already resolved: it names no other file, and nothing twice).

    `instead`: as for `understood`.

    Raises:
        BadInput: it cannot be read, or not by this version.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MOST_CHARACTERS + 1)
        if len(text) > _MOST_CHARACTERS:
            raise ValueError(f"it has more than {_MOST_CHARACTERS:,} characters")
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has aliases, by which few bytes can be told to stand for any number")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ValueError(f"it has lists or sections more than {_DEEPEST} deep")
        return understood(yaml.load(text, Loader=_LOADER), instead)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; is this a run directory?") from error
    except ValidationError as error:
        raise BadInput(f"{path}: {of_another_version(error)}") from error
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not a run's configuration: {_one_line(str(error))}") from error


def understood(content: dict[str, Any], instead: dict[str, Any] | None = None) -> Config:
    """What was saved with a run; with the sections of `instead`, where it is not to the rules of this version.

    Raises:
        ValidationError: even so.
    """
    try:
        return Config(**content)
    except ValidationError:
        if not instead:
            raise
        return Config(**(content | instead))


def of_another_version(error: ValidationError) -> str:
    """What `understood` raised, in words."""
    return f"not as this version of Dayside has it: {_invalid(error)}; use the version that wrote it, or mend the key"


def dump_yaml(config: BaseModel, but: Collection[str] = ()) -> str:
    """A configuration, or a section of one, without the keys in `but`."""
    content = config.model_dump(mode="json", exclude=set(but))
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
