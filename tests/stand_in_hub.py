"""A server on this machine that answers as the Hugging Face hub does, as far as a download asks."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".gguf", ".parquet")  # kept by the hub with a hash that it states


@contextmanager
def serve(repo, files, kind="model") -> Iterator[tuple[str, SimpleNamespace]]:
    """One repository → its address, and a state that tests look at and change.

    files: name → bytes. requests: what was asked for, with its range. cuts: file → how often the connection
    breaks half-way. promise: a hash to state in place of the true one.
    """
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.state = SimpleNamespace(
        repo=repo, files=dict(files), kind=kind, requests=[], cuts={}, promise=None
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", server.state
    server.shutdown()
    server.server_close()


class Hub(http.server.BaseHTTPRequestHandler):
    """The few answers of the Hugging Face hub that a download needs."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        state = self.server.state
        path = self.path.split("?")[0]
        if path.startswith(f"/api/{state.kind}s/{state.repo}"):
            files = [
                {
                    "rfilename": name,
                    "size": len(data),
                    "blobId": hashlib.sha1(data).hexdigest(),
                    **({"lfs": self._large(data)} if name.endswith(LARGE) else {}),
                }
                for name, data in state.files.items()
            ]
            return self._send(
                json.dumps({"id": state.repo, "sha": COMMIT, "siblings": files}).encode(), {}, body
            )
        name = self._name(path)
        if name not in state.files:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        data = state.files[name]
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        if body:
            state.requests.append((name, self.headers.get("Range")))
        return self._send(data, headers, body, cut=body and state.cuts.get(name, 0) > 0)

    def _name(self, path):
        """The file that an address asks for: /owner/name/resolve/REVISION/FILE; data sets have a prefix."""
        prefix = "/datasets" if self.server.state.kind == "dataset" else ""
        start = f"{prefix}/{self.server.state.repo}/resolve/"
        return path.removeprefix(start).split("/", 1)[-1] if path.startswith(start) else None

    def _large(self, data):
        promised = self.server.state.promise or hashlib.sha256(data).hexdigest()
        return {"sha256": promised, "size": len(data), "pointerSize": 130}

    def _send(self, data, headers, body, cut=False):
        start = self.headers.get("Range")
        first = int(start.removeprefix("bytes=").split("-")[0]) if start and body else 0
        self.send_response(206 if first else 200)
        for key, value in headers.items():
            self.send_header(key, value)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        if not body:
            return
        if cut:  # the connection breaks half-way
            self.server.state.cuts[self._name(self.path.split("?")[0])] -= 1
            self.wfile.write(data[first : len(data) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
        else:
            self.wfile.write(data[first:])
