"""``vnp view``: the report's page, live, in a browser."""

from __future__ import annotations

import argparse
import contextlib

from vnp.cli import options
from vnp.cli.output import Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    about = "port of this machine to listen on (default: 8470 or the next free one; 0: any)"
    parser.add_argument("--port", type=options.port, metavar="N", help=about)
    about = "open it in this machine's browser; without, the address is printed only"
    parser.add_argument("--open", action="store_true", help=about)
    parser.add_argument("--title", help="headline (default: the store's name)")
    about = "scores to show that vnp predict --save kept (default: those saved last)"
    parser.add_argument("--scores", metavar="NAME", help=about)
    about = "make the map without UMAP also where it is installed"
    parser.add_argument("--no-umap", action="store_true", help=about)


def run(given: argparse.Namespace) -> int:
    """Serve until the command is interrupted."""
    from vnp.view.extra import require_view

    require_view()
    from store.open import open_store
    from vnp.models.registry import demo_warning
    from vnp.view.live import LiveStore
    from vnp.view.page import live_page
    from vnp.view.serve import listen, opened, serve

    store = open_store(given.store)
    live = LiveStore(store, scores=given.scores, title=given.title, umap=not given.no_umap)
    warning = demo_warning(model.name for model in store.schema.models)
    page = live_page(given.title or store.path.name, warning=warning)
    listening = listen(given.port)
    port = listening.getsockname()[1]
    with contextlib.ExitStack() as stack:

        def ready(address: str) -> None:
            lines = [
                f"{store.path} is shown at",
                f"  {address}",
                f"on another machine first: ssh -L {port}:127.0.0.1:{port} THIS_MACHINE",
                "whoever has this address can read the store; Ctrl-C ends it",
            ]
            Outcome({"store": str(store.path), "url": address, "port": port}, lines).show(
                as_json=given.json
            )
            if given.open:
                stack.enter_context(opened(address))

        serve(live, page, listening=listening, ready=ready)
    return 0
