"""A network camera: motion JPEG over HTTP on this machine."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import cv2
import numpy as np


class MjpegServer:
    """Sends 96 x 64 images, brighter from one to the next, at `rate` Hz to everybody who asks."""

    def __init__(self, rate: float = 25.0, port: int = 0) -> None:
        camera, self.rate, self.frames = self, rate, 0
        self.open = True

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/video.mjpg":
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                while camera.open:
                    try:
                        self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n")
                        self.wfile.write(camera.jpeg() + b"\r\n")
                    except (BrokenPipeError, ConnectionResetError):
                        return
                    time.sleep(1 / camera.rate)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}/video.mjpg"

    def jpeg(self) -> bytes:
        image = np.full((64, 96, 3), 40 + self.frames % 180, np.uint8)
        self.frames += 1
        return cv2.imencode(".jpg", image)[1].tobytes()

    def __enter__(self) -> MjpegServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.open = False
        self._server.shutdown()
        self._server.server_close()
