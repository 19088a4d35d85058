"""A page to try a model on one's own videos, for this machine only."""

import logging
import socket
import threading
from http import HTTPStatus
from typing import NamedTuple

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.serving import BaseWSGIServer, make_server

from kinetrack.errors import InputError, WriteError, printable
from kinetrack.using.answers import Prediction
from kinetrack.using.inference import Recogniser
from kinetrack.using.intake import Limits, prepare_within, reason_of, stored
from kinetrack.using.pages.document import fill_page
from kinetrack.using.pages.strips import Strip, draw_window
from kinetrack.using.prediction import Prepared, count_windows
from kinetrack.using.saliency import class_saliency

HOST = "127.0.0.1"
# What a form adds to its file.
_FORM_BYTES = 100_000
_READ_AT_ONCE = 1 << 20
_MOST_CLASSES = 10
# A page without a script, whose pictures are in it; no other page may hold it in a frame.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Shown(NamedTuple):
    """What the page says of a video."""

    name: str
    prediction: Prediction
    strip: Strip


def make_app(recogniser: Recogniser, limits: Limits) -> Flask:
    """Make the application; it serves one page and no file.

    A Host header of another name, as when a foreign site has its name point here, is refused, and
    so is a form that another site sends.
    """
    app = Flask(__name__, static_folder=None)
    app.config["TRUSTED_HOSTS"] = [HOST, "localhost"]
    app.config["MAX_CONTENT_LENGTH"] = int(limits.video_mb * 1e6) + _FORM_BYTES
    alone = threading.Lock()  # the network explains itself by hooks, which are of one call

    @app.get("/")
    def ask() -> str:
        return _fill(recogniser, limits)

    @app.post("/")
    def answer() -> tuple[str, HTTPStatus]:
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return _fill(recogniser, limits, problem="sent by another site"), HTTPStatus.FORBIDDEN
        file = request.files.get("video")
        if file is None or not file.filename:
            return _fill(recogniser, limits, problem="no video was chosen"), HTTPStatus.BAD_REQUEST
        name = printable(file.filename)
        try:
            with alone:
                shown = show(file.read(), recogniser, limits, name=name)
        except InputError as error:
            status = HTTPStatus.SERVICE_UNAVAILABLE if isinstance(error, WriteError) else None
            page = _fill(recogniser, limits, name=name, problem=reason_of(error))
            return page, status or HTTPStatus.UNPROCESSABLE_ENTITY
        return _fill(recogniser, limits, shown=shown, name=name), HTTPStatus.OK

    @app.errorhandler(RequestEntityTooLarge)
    def refuse(_: RequestEntityTooLarge) -> tuple[str, HTTPStatus]:
        _read_out()
        problem = f"is too large, expected at most {limits.video_mb:g} MB"
        return _fill(recogniser, limits, problem=problem), HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    @app.errorhandler(HTTPException)
    def tell(error: HTTPException) -> Response:
        return Response(f"{error.code} {error.name}\n", error.code, mimetype="text/plain")

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.update(_HEADERS)
        return response

    return app


def show(content: bytes, recogniser: Recogniser, limits: Limits, *, name: str) -> Shown:
    """Tell what a video shows, with frames that the network saw, and where it looked.

    Of several windows these are the middle one's.

    Raises:
        InputError: the video cannot be used, or is larger than the limits.
    """
    with stored(content, limits) as path:
        prepared = prepare_within(path, card=recogniser.card, limits=limits)
    prediction = recogniser.answer(prepared)
    return Shown(name, prediction, _draw(prepared, prediction, recogniser))


def _draw(prepared: Prepared, prediction: Prediction, recogniser: Recogniser) -> Strip:
    clip = prepared.clips[len(prepared.clips) // 2]
    class_index = recogniser.labels.index(prediction.labels[0])
    heat = class_saliency(recogniser.network, recogniser.card, clip, class_index)
    return draw_window(clip.transpose(1, 2, 3, 0), heat)


def _fill(
    recogniser: Recogniser,
    limits: Limits,
    *,
    shown: Shown | None = None,
    name: str = "",
    problem: str = "",
) -> str:
    pairs = shown.prediction.top(_MOST_CLASSES) if shown else []
    return fill_page(
        "demo.html",
        card=recogniser.card,
        windows=count_windows(recogniser.card.clip),
        limits=limits,
        shown=shown,
        pairs=pairs,
        name=name,
        problem=problem,
    )


def _read_out() -> None:
    """Read what is still on its way: a browser that is cut off shows no answer."""
    stream, left = request.environ["wsgi.input"], request.content_length or 0
    while left > 0 and (part := stream.read(min(left, _READ_AT_ONCE))):
        left -= len(part)


def start(app: Flask, *, port: int | None = None) -> BaseWSGIServer:
    """Bind an application to this machine; `serve_forever` of the result answers.

    Args:
        port: None takes any that is free.

    Raises:
        InputError: the port is taken.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    try:
        listener = socket.create_server((HOST, port or 0))
    except OSError as error:
        remedy = "choose another --port"
        raise InputError(
            f"{HOST}:{port}", "this port cannot be had", found=error.strerror, remedy=remedy
        ) from None
    with listener:  # the server has a copy of it
        return make_server(
            HOST, listener.getsockname()[1], app, threaded=True, fd=listener.fileno()
        )
