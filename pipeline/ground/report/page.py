"""The page itself: one HTML document that holds its script, style and data, and asks for nothing."""

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.resources import Resources
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.ground.report import charts, contents
from pipeline.ground.report.material import Material


def render(material: Material, live: str | None = None) -> str:
    """The document. What the ledger or the configuration says is escaped wherever it stands.

    Args:
        live: what the server's `state` says now; a page that is given one reloads itself when that changes.
    """
    content = contents.gather(material)
    drawn = {
        "learning": charts.learning(material.history, content["unit"], content["unigram_loss"]),
        "mission": charts.mission(material.history, content["unit"], material.config),
        "plan": charts.plan(material.history, content["unit"], material.expected),
    }
    items = {name: json_item(model, ID(f"chart-{name}")) for name, model in drawn.items() if content["charts"][name]}
    scripts = {"bokeh_js": _bokeh(), "page_js": _file("page.js")}
    return _template().render(
        **content,
        live=live,
        policy=_policy(list(scripts.values()), live is not None),
        css=Markup(_file("page.css")),
        charts_json=_inert(items),
        **{name: Markup(script) for name, script in scripts.items()},
    )


def _policy(scripts: list[str], live: bool) -> str:
    """What the browser may do for this page: run these very scripts, and call nobody (but for a live page its server).

    Should something of a ledger ever pass for markup, it still cannot run or send.
    """
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = {
        "default-src": "'none'",
        "script-src": " ".join(f"'sha256-{digest}'" for digest in hashes),
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob:",
        "connect-src": "'self'" if live else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{key} {value}" for key, value in allowed.items())


def _inert(value: Any) -> Markup:
    """JSON that can stand in a script element: with no `<` in it, nothing ends the element early."""
    return Markup(json.dumps(value, separators=(",", ":")).replace("<", "\\u003c"))


@cache
def _bokeh() -> str:
    """Bokeh's own script with its licence (BSD 3-clause), as its package carries it: no widgets, no server."""
    return "\n".join(Resources(mode="inline", components=["bokeh"], log_level="warn").js_raw)


@cache
def _file(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


@cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader(__package__, "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html")
