"""
What does a YAML text say, if it may hold only plain values?

Maps, lists, texts, numbers, yes and no, null. No tags, so nothing is ever constructed from a name; no key twice; and
bounds on depth and size, aliases counted as often as they are used, so that no text is larger inside than out.
"""

import re
from typing import Any

import yaml

DEPTH, VALUES = 32, 50_000
_DIGITS = 40  # of a number; a text may be longer
_PLAIN = ("map", "seq", "str", "int", "float", "bool", "null", "merge")
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
# Control characters, which a terminal may obey, and halves of characters, which nothing can print.
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class PlainYamlError(ValueError):
    """A text is no YAML or holds more than plain values; says where, and repeats none of it."""


class _PlainLoader(yaml.SafeLoader):
    """Composes a text and counts what it holds, before anything is made of it."""

    yaml_implicit_resolvers = {  # noqa: RUF012  PyYAML looks here for what a bare word may mean
        first: [(tag, pattern) for tag, pattern in known if tag.rsplit(":", 1)[-1] in _PLAIN]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.open = 0
        self.sizes: dict[yaml.Node, tuple[int, int]] = {}  # values and depth of each node that is whole

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if getattr(event, "tag", None) is not None:
            raise _refusal("tags have no place here", event.start_mark)
        self.open += 1
        if self.open > DEPTH:
            raise _refusal(f"nested deeper than {DEPTH}", event.start_mark)
        meant = self.anchors.get(event.anchor) if isinstance(event, yaml.AliasEvent) else None
        if meant is not None and meant not in self.sizes:
            raise _refusal("an alias stands inside what it stands for", event.start_mark)
        node = super().compose_node(parent, index)
        self.open -= 1
        if node is not None:
            self._count(node, event.start_mark)
        return node

    def _count(self, node: yaml.Node, mark: yaml.Mark) -> None:
        if node in self.sizes:
            return
        if isinstance(node, yaml.MappingNode):
            parts = [each for pair in node.value for each in pair]
            _refuse_twice(node)
        else:
            parts = node.value if isinstance(node, yaml.SequenceNode) else []
        sizes = [self.sizes[part] for part in parts]
        size, depth = 1 + sum(each for each, _ in sizes), 1 + max((each for _, each in sizes), default=0)
        if isinstance(node, yaml.ScalarNode) and _NO_TEXT.search(node.value):
            raise _refusal("a character that no text has", mark)
        if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS and len(node.value) > _DIGITS:
            raise _refusal(f"a number of more than {_DIGITS} digits", mark)
        if size > VALUES or len(self.sizes) > VALUES or depth > DEPTH:
            raise _refusal(f"more than {VALUES} values, or nested deeper than {DEPTH}", mark)
        self.sizes[node] = size, depth


def _refuse_twice(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _refusal("a key is a list or a map", key.start_mark)
        if key.value in seen:
            raise _refusal(f"key '{in_a_line(key.value)}' stands twice", key.start_mark)
        seen.add(key.value)


def _refusal(problem: str, mark: yaml.Mark | None) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def plain_yaml(text: str) -> Any:
    """What a text says. PlainYamlError if it is no YAML, too large inside, or holds more than plain values."""
    try:
        loader = _PlainLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise PlainYamlError(where + in_a_line(error.problem or error.context)) from None
    except (yaml.YAMLError, ValueError) as error:
        raise PlainYamlError(in_a_line(error)) from None


def in_a_line(text: object) -> str:
    """A text as part of a message: without line breaks, and cut if it is long."""
    line = " ".join(str(text).split())
    return line if len(line) <= 120 else f"{line[:120]}…"
