"""`kinetrack demo`: a page to try a model on one's own videos."""

import os
from contextlib import suppress

from kinetrack.using.demo import HOST, make_app, start
from kinetrack.using.intake import read_limits
from kinetrack.using.loading import load


def serve_demo(model: str, *, port: int | None) -> None:
    """Answer on this machine until Ctrl-C.

    Raises:
        InputError: no model, a limit that is none, or a port that is taken.
    """
    server = start(make_app(load(model), read_limits(os.environ)), port=port)
    print(f"http://{HOST}:{server.port}  (Ctrl-C ends it)", flush=True)
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()
