"""The published JSON Schema: current, valid, and of one mind with the loader."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from isthmus.declare import schema
from isthmus.declare.file import DeclarationErrors, load, loads

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "src/isthmus/declare/schema.json"
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text()))


def test_schema_is_current() -> None:
    assert PUBLISHED.read_text() == schema.render()


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(PUBLISHED.read_text()))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_validates_and_loads(path: Path) -> None:
    _validator().validate(yaml.safe_load(path.read_text()))
    assert load(str(path)).name == path.stem


def test_every_act_of_the_note_has_an_example() -> None:
    names = {path.stem for path in EXAMPLES}
    assert {"veth-pair", "bridge", "bridge-address", "masquerade", "port-forwarding"} <= names


@pytest.mark.parametrize(
    "text",
    [
        "networks: {br0: {subnets: 10.0.0.0/24, gateway: [10.0.0.1]}}",
        "networks: {br0: {gateway: none, isolate-ports: true, mtu: 1500, snat: 192.0.2.1}}",
        "namespaces: {n: {networks: [br0, br1], publish: 8080:80}}",
        "namespaces: {n: {networks: {br0: {}}, publish: [{port: 8080:80, allow-nonlocal: true}], command: [a]}}",
        "forwarding: {}",
        "forwarding: {persist: true, link: eth0, ipv4: true}",
        "forwarding: [{ipv4: true}, {ipv6: true, link: [eth0, eth1]}]",
        "links: [[{ns: a}, {ns: b}], {ends: [{ns: a, name: x}, {ns: /run/netns/c}], mtu: 9000}]",
    ],
)
def test_schema_takes_what_the_loader_takes(text: str) -> None:
    loads(text, "x.yaml")
    _validator().validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        "network: {}",
        "networks: {br0: {gatway: 10.0.0.1}}",
        "networks: {bad/name: {}}",
        "networks: {br0: }",
        "networks: {br0: {mtu: '1500'}}",
        "networks: {br0: {uplink: bridged}}",
        "namespaces: {n: {command: python3}}",
        "namespaces: {n: {command: [80]}}",
        "namespaces: {n: {publish: 22:22}}",
        "links: [[{ns: a}]]",
        "forwarding: true",
        "forwarding: {persist: 'true'}",
        "forwarding: {family: 4}",
        "forwarding: {link: a/b}",
        "links: [[{ns: a}, {name: b}]]",
    ],
)
def test_schema_refuses_what_the_loader_refuses(text: str) -> None:
    with pytest.raises(DeclarationErrors):
        loads(text, "x.yaml")
    assert not _validator().is_valid(yaml.safe_load(text))
