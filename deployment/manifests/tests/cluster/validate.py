"""Validates objects strictly: those of Kubernetes by its own schemas, others by the resource definitions that are given.

Prints one line a mistake (file, object, field, what is wrong) and ends with 1 if there was any.
"""

import argparse
import json
import sys

import jsonschema
import kubernetes_validate
import yaml


def strict(schema):
    """The schema as the API server applies it with strict field validation: what is not named is refused."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: strict(value) for key, value in schema.items()}
    open_ended = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and not open_ended:
        result["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return result


def load_definitions(paths):
    """Schemas by API version and kind."""
    schemas = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for definition in yaml.load_all(file, yaml.CSafeLoader):
                if not definition or definition.get("kind") != "CustomResourceDefinition":
                    continue
                spec = definition["spec"]
                for version in spec["versions"]:
                    schema = strict(version["schema"]["openAPIV3Schema"])
                    # The API server checks these itself, and the definitions only say `object`.
                    schema["properties"]["metadata"] = {"type": "object"}
                    schemas[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return schemas


def mistakes(item, schemas, version):
    """Pairs of a field and what is wrong with it."""
    schema = schemas.get((item.get("apiVersion"), item.get("kind")))
    if schema is not None:
        for error in jsonschema.Draft7Validator(schema).iter_errors(item):
            yield error.absolute_path, error.message
        return
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield error.path, error.message
    except kubernetes_validate.SchemaNotFoundError:
        yield [], f"there is no schema of {item.get('apiVersion')} {item.get('kind')}"


def main():
    """Reads the objects and prints what is wrong with them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubernetes", required=True, help="minor version, such as 1.35")
    parser.add_argument("objects", help="JSON: a list of {file, object}")
    parser.add_argument("definitions", nargs="*", help="files of CustomResourceDefinitions")
    arguments = parser.parse_args()
    schemas = load_definitions(arguments.definitions)
    with open(arguments.objects, encoding="utf-8") as file:
        entries = json.load(file)
    wrong = False
    for entry in entries:
        item = entry["object"]
        for path, message in mistakes(item, schemas, arguments.kubernetes):
            wrong = True
            field = "".join(f"/{part}" for part in path) or "/"
            print(f"{entry['file']}: {item.get('kind')} {item.get('metadata', {}).get('name')}: {field}: {message}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
