#!/usr/bin/env python3
"""Checks what SAM makes of template.yaml, which is what CloudFormation gets: names, order, types and deletion.

Neither `sam validate` nor cfn-lint shows these mistakes. It needs the packages of .venv/sam, and no network:

    localstack/emulator tools && .venv/sam/bin/python tests/template.py
    .venv/sam/bin/python tests/template.py --write FILE     also write the translation, for checkov
"""

import json
import logging
import os
import pathlib
import re
import sys
import tempfile

os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")

import boto3  # noqa: E402
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER  # noqa: E402
from samcli.commands.deploy.auth_utils import auth_per_resource  # noqa: E402
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider  # noqa: E402
from samcli.yamlhelper import yaml_parse  # noqa: E402
from samtranslator.parser.parser import Parser  # noqa: E402
from samtranslator.translator.translator import Translator  # noqa: E402

# Its metrics are published by nobody.
logging.getLogger("samtranslator").setLevel(logging.ERROR)

TEMPLATE = pathlib.Path(__file__).parent.parent / "template.yaml"

# What `sam delete` leaves in the account.
KEPT = {"Table"}

# The policy that SAM gives to every function. It allows logs:CreateLogGroup.
BASIC = "service-role/AWSLambdaBasicExecutionRole"


def translated(text):
    """Returns the template as SAM translates it in CloudFormation."""
    template = yaml_parse(text)
    # `sam package` replaces the folder by an address.
    template["Globals"]["Function"]["CodeUri"] = "s3://bucket/code"
    policies = {name: f"arn:aws:iam::aws:policy/{name}" for name in (BASIC, "AWSXrayWriteOnlyAccess")}
    return Translator(policies, Parser(), boto_session=boto3.Session()).translate(template, {})


# ---------------------------------------------------------------------------------------------------------- references
def references(value, known=frozenset()):
    """Returns what a value refers to. `known` has the variables of a Sub."""
    if isinstance(value, list):
        return {name for one in value for name in references(one, known)}
    if not isinstance(value, dict):
        return set()
    if "Ref" in value:
        return {value["Ref"]}
    if "Fn::GetAtt" in value:
        attribute = value["Fn::GetAtt"]
        return {(attribute if isinstance(attribute, list) else attribute.split("."))[0]}
    if "Fn::Sub" in value:
        text, variables = value["Fn::Sub"] if isinstance(value["Fn::Sub"], list) else (value["Fn::Sub"], {})
        return set(re.findall(r"\$\{([A-Za-z0-9]+)[.}]", text)) - set(variables) | references(variables)
    return references(list(value.values()))


def requirements(resources):
    """Returns for each resource everything that CloudFormation creates before it."""
    direct = {}
    for name, resource in resources.items():
        after = resource.get("DependsOn", [])
        found = references(resource["Properties"]) | set([after] if isinstance(after, str) else after)
        direct[name] = found & set(resources)
    required = {}
    for name in resources:
        required[name], ahead = set(), [name]
        while ahead:
            new = direct[ahead.pop()] - required[name]
            required[name] |= new
            ahead += new
    return required


def circles(resources):
    return [f"{name} requires itself" for name, before in requirements(resources).items() if name in before]


def parallel_parts_of_an_api(resources):
    """API Gateway may refuse changes of one API at the same time. So its parts must have an order."""
    required = requirements(resources)
    kinds = ("Authorizer", "Integration", "IntegrationResponse", "Route", "RouteResponse", "Stage")
    parts = {}
    for name, resource in resources.items():
        if resource["Type"] in [f"AWS::ApiGatewayV2::{kind}" for kind in kinds]:
            parts.setdefault(resource["Properties"]["ApiId"]["Ref"], []).append(name)
    for of_one in parts.values():
        for place, one in enumerate(of_one):
            for other in of_one[place + 1 :]:
                if one not in required[other] and other not in required[one]:
                    yield f"{one} and {other} may be created at the same time"


def parts_after_the_stage(resources):
    """A stage with AutoDeploy deploys each change that comes after it, while the next change is made."""
    required = requirements(resources)
    stages = {name for name, resource in resources.items() if resource["Type"] == "AWS::ApiGatewayV2::Stage"}
    for name, before in required.items():
        if resources[name]["Type"].startswith("AWS::ApiGatewayV2::") and before & stages:
            yield f"{name} is created after {', '.join(before & stages)}"


# --------------------------------------------------------------------------------------------------------------- types
def free_parts(value, schema, root, path):
    """Returns the parts of a value for whose content the schema of its resource has no types."""
    while "$ref" in schema:
        schema = root["definitions"][schema["$ref"].rsplit("/", 1)[1]]
    branches = [schema, *schema.get("oneOf", []), *schema.get("anyOf", []), *schema.get("allOf", [])]
    if isinstance(value, list):
        for item in value:
            yield from free_parts(item, schema.get("items", {}), root, path)
        return
    if not isinstance(value, dict) or "Ref" in value:
        return
    typed = {name: one for branch in branches for name, one in branch.get("properties", {}).items()}
    patterns = [one for branch in branches for one in branch.get("patternProperties", {}).values()]
    if "Fn::If" in value:
        for branch in value["Fn::If"][1:]:
            yield from free_parts(branch, schema, root, path)
    elif not typed and not patterns and "object" in str(schema.get("type", "object")):
        yield path, value
    else:
        for name, item in value.items():
            found = typed.get(name) or (patterns[0] if patterns else None)
            if found:
                yield from free_parts(item, found, root, f"{path}/{name}")


def numbers_as_strings(template):
    """CloudFormation passes a parameter as a string where it has no types."""
    numbers = {name for name, one in template["Parameters"].items() if one["Type"] == "Number"}
    for name, resource in template["Resources"].items():
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", resource["Type"]).schema
        for key, value in resource["Properties"].items():
            for path, part in free_parts(value, schema["properties"].get(key, {}), schema, f"{name}/{key}"):
                for number in sorted(references(part) & numbers):
                    yield f"{number} arrives as a string at {path}"


# ---------------------------------------------------------------------------------------------------------- permissions
def log_groups_that_come_back(resources):
    """A role that may create log groups brings a deleted one back, without its retention."""
    for name, resource in resources.items():
        if resource["Type"] != "AWS::IAM::Role":
            continue
        boundary = resource["Properties"].get("PermissionsBoundary", {}).get("Ref")
        statements = resources[boundary]["Properties"]["PolicyDocument"]["Statement"] if boundary else [{"Action": "*"}]
        for statement in statements:
            actions = statement.get("Action", [])
            actions = [actions] if isinstance(actions, str) else actions
            if {"*", "logs:*", "logs:CreateLogGroup"} & set(actions) or statement.get("NotAction", "logs:*") != "logs:*":
                yield f"{name} may create log groups"


def questions_that_end_a_deployment(text):
    """`sam deploy --guided` asks about each route without authentication, and fails at the default answer."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        stacks, _ = SamLocalStackProvider.get_stacks(file.name)
        for name, is_authorized in auth_per_resource(stacks):
            if not is_authorized:
                yield f"sam deploy --guided asks about the authentication of {name}"


# ------------------------------------------------------------------------------------------------------------- deletion
def wrongly_kept_or_deleted(resources):
    kept = {name for name, one in resources.items() if one.get("DeletionPolicy", "Delete") != "Delete"}
    for name in kept ^ KEPT:
        yield f"{name} has the wrong DeletionPolicy"
    for name, resource in resources.items():
        if resource.get("DeletionPolicy") != resource.get("UpdateReplacePolicy"):
            yield f"{name} has another UpdateReplacePolicy than DeletionPolicy"


def mistakes(text):
    template = translated(text)
    resources = template["Resources"]
    return [
        *circles(resources),
        *parallel_parts_of_an_api(resources),
        *parts_after_the_stage(resources),
        *numbers_as_strings(template),
        *log_groups_that_come_back(resources),
        *questions_that_end_a_deployment(text),
        *wrongly_kept_or_deleted(resources),
    ]


# Changes of the template, and the mistake that each makes. They show that the checks above notice mistakes.
BROKEN = [
    (", !Ref SocketApiUnicastRoute]]", "]]", "may be created at the same time"),
    ("    DependsOn: PingRoute\n", "", "may be created at the same time"),
    ("    DependsOn: PingRoute\n", "    DependsOn: SocketApiwsStage\n", "requires itself"),
    ("ThrottlingRateLimit: 50 }", "ThrottlingRateLimit: !Ref RequestsPerSecond }", "RequestsPerSecond arrives as a string"),
    ("    PermissionsBoundary: !Ref FunctionBoundary\n", "", "may create log groups"),
    ("      Auth: { EnableIamAuthorizer: false }\n", "", "asks about the authentication"),
    ("NotAction: logs:*", "NotAction: s3:*", "may create log groups"),
    ("    DeletionPolicy: Retain\n", "", "Table has the wrong DeletionPolicy"),
    ("    UpdateReplacePolicy: Retain\n", "", "Table has another UpdateReplacePolicy"),
]


def main():
    text = TEMPLATE.read_text()
    if sys.argv[1:2] == ["--write"]:
        pathlib.Path(sys.argv[2]).write_text(json.dumps(translated(text), indent=1))
    found = mistakes(text)
    for before, after, mistake in BROKEN:
        if before not in text:
            found.append(f"this test is out of date: the template has no {before.strip()!r}")
        elif not any(mistake in one for one in mistakes(text.replace(before, after, 1))):
            found.append(f"this test does not notice {after.strip()!r} in place of {before.strip()!r}")
    if found:
        sys.exit("template.yaml: " + "\ntemplate.yaml: ".join(found))
    print(f"SAM's translation of template.yaml is right, and {len(BROKEN)} mistakes in it are noticed")


if __name__ == "__main__":
    main()
