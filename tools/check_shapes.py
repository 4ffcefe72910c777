"""Check the files for KubeRay and SkyPilot in workflows/ against the engines' own schemas.

``tests/workflows/test_shapes.py`` checks them against schemas of the fields in use. This takes the
real ones, which are too large to keep here::

    python tools/check_shapes.py --crd ray.io_rayjobs.yaml    # of KubeRay's Helm chart
    python tools/check_shapes.py --skypilot                   # where skypilot is installed
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jsonschema
import yaml

WORKFLOWS = Path(__file__).parents[1] / "workflows"


def closed(schema: Any) -> Any:
    """Refuse unknown fields in a schema of a CRD, as ``kubectl --validate=strict`` does."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {}
    schema = {name: closed(value) for name, value in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        schema.setdefault("additionalProperties", False)
    return schema


def check(path: Path, schema: Any) -> None:
    """Print what does not fit, or that all does."""
    content = yaml.safe_load(path.read_text())
    errors = list(jsonschema.Draft7Validator(schema).iter_errors(content))
    for error in errors:
        print(f"{path.name}: {'.'.join(map(str, error.absolute_path))}: {error.message}")
    if errors:
        raise SystemExit(1)
    print(f"{path.name}: fits")


def main() -> None:
    """Check what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crd", type=Path, help="KubeRay's ray.io_rayjobs.yaml")
    parser.add_argument("--skypilot", action="store_true", help="by the installed skypilot")
    given = parser.parse_args()
    if given.crd is not None:
        versions = yaml.safe_load(given.crd.read_text())["spec"]["versions"]
        [version] = [each for each in versions if each["name"] == "v1"]
        schema = closed(version["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {}  # the server knows it, the definition does not
        check(WORKFLOWS / "kuberay/rayjob.yaml", schema)
    if given.skypilot:
        from sky.utils import schemas

        path = WORKFLOWS / "skypilot/vnp.yaml"
        check(path, schemas.get_task_schema())
        check(path, {"properties": {"resources": schemas.get_resources_schema()}})


if __name__ == "__main__":
    main()
