"""Links of the docs, in the repository and in the site."""

from __future__ import annotations

import pytest

from tools.docs_hooks import linked


@pytest.mark.parametrize(
    ("source", "link", "in_the_site"),
    [
        ("README.md", "docs/start.md", "start.md"),
        ("README.md", "docs/classify.md#training", "classify.md#training"),
        ("README.md", "docs/images/report.png", "images/report.png"),
        ("docs/start.md", "../README.md", "index.md"),
        ("docs/start.md", "guides/r.md", "guides/r.md"),
        ("docs/guides/r.md", "../start.md", "../start.md"),
        ("docs/cluster.md", "../workflows/kuberay/rayjob.yaml", "workflows/kuberay/rayjob.yaml"),
        ("docs/decisions/021-rooms.md", "../../CONTRIBUTING.md", "../CONTRIBUTING.md"),
        ("docs/guides/python.md", "../notebooks/study.ipynb", "../notebooks/study.md"),
        ("docs/start.md", "https://example.org/a.md", "https://example.org/a.md"),
        ("docs/start.md", "#calls", "#calls"),
    ],
)
def test_a_link_leads_to_the_same_place(source: str, link: str, in_the_site: str) -> None:
    assert linked(f"[text]({link})", source) == f"[text]({in_the_site})"
