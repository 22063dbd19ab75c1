"""A Hugging Face hub on loopback: the few addresses that finding and downloading a model needs, with real headers."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repositories by id, and what was asked of them; ``gated`` ones show their names but give no file."""

    repositories: Mapping[str, Path]
    gated: frozenset[str] = frozenset()
    requests: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Run a hub at ``hub.url`` until the ``with`` ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, hub, *args):
        self.hub = hub
        super().__init__(*args)

    def log_message(self, *_):
        """Keep the test's output clean."""

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        self.hub.requests.append(f"{self.command} {self.path}")
        path = self.path.split("?")[0].strip("/")
        name = next((name for name in self.hub.repositories if name in path), None)
        if name is None:
            self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif path.startswith("api/models/"):
            self.api(name, path.removeprefix(f"api/models/{name}").strip("/"))
        else:
            self.file(name, path.removeprefix(f"{name}/resolve/"))

    def files(self, name):
        return sorted(path for path in self.hub.repositories[name].iterdir() if path.is_file())

    def api(self, name, rest):
        if rest.startswith("tree/"):
            tree = [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": etag(path)}
                for path in self.files(name)
            ]
            self.send(200, json.dumps(tree).encode())
        else:
            siblings = [{"rfilename": path.name} for path in self.files(name)]
            info = {"_id": "1", "id": name, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}
            self.send(200, json.dumps(info).encode())

    def file(self, name, rest):
        path = self.hub.repositories[name] / rest.split("/", 1)[1]
        if name in self.hub.gated:
            self.send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif not path.is_file():
            self.send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            self.send(200, path.read_bytes(), {"ETag": f'"{etag(path)}"', "X-Repo-Commit": COMMIT})

    def send(self, status, body, headers=None):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def etag(path):
    return hashlib.sha1(path.read_bytes()).hexdigest()
