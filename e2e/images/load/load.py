"""Sends requests at a fixed rate, however long answers take, until SIGTERM; says in JSON lines what came of them.

Every other request opens a connection of its own; those between take turns on a few that are kept alive. A kept one that
the server has closed by then is replaced and the request sent anew, as HTTP clients do; that is counted by whether the
request was on its way already. Every other request that has no answer of code 200 within 10 s is lost. Latencies count
from the moment at which a request was due.
"""

import argparse
import collections
import http.client
import itertools
import json
import queue
import select
import signal
import threading
import time
import urllib.parse

PATIENCE = 10
KEPT = 8
PERIOD = 2
ERRORS_TOLD = 5


class Figures:
    """What has happened so far. Every method may be called by any thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.begun = time.monotonic()
        self.counts = collections.Counter()
        self.versions = collections.Counter()
        self.latencies = []
        self.errors = []

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def answer(self, version, latency):
        with self.lock:
            self.counts["answered"] += 1
            self.versions[version] += 1
            self.latencies.append(latency)

    def lose(self, error):
        with self.lock:
            self.counts["lost"] += 1
            if len(self.errors) < ERRORS_TOLD:
                self.errors.append(f"{time.monotonic() - self.begun:.1f} s: {type(error).__name__}: {error}")

    def tell(self, over):
        with self.lock:
            ordered = sorted(self.latencies) or [0.0]

            def at(share):
                return round(1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)], 1)

            told = {what: self.counts[what] for what in ("sent", "answered", "lost", "replaced", "retried")}
            told |= {"errors": self.errors, "versions": self.versions, "seconds": round(time.monotonic() - self.begun, 1)}
            told |= {"p50": at(0.5), "p99": at(0.99), "max": at(1.0), "over": over}
            print(json.dumps(told), flush=True)


class Client:
    def __init__(self, url, body, figures):
        parts = urllib.parse.urlsplit(url)
        self.place, self.path = (parts.hostname, parts.port or 80), parts.path
        self.body, self.figures = body, figures
        self.kept = queue.SimpleQueue()
        for _ in range(KEPT):
            self.kept.put(self.connection())

    def connection(self):
        return http.client.HTTPConnection(*self.place, timeout=PATIENCE)

    def ask(self, connection, keep):
        headers = {"Content-Type": "application/json"} | ({} if keep else {"Connection": "close"})
        connection.request("POST", self.path, self.body, headers)
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise http.client.HTTPException(f"code {response.status}: {text[:200]!r}")
        return json.loads(text).get("model_version", "")

    def ask_on_kept(self):
        """One by one, so that each of them idles for a while."""
        try:
            connection = self.kept.get_nowait()
        except queue.Empty:
            connection = self.connection()
        try:
            # Something to read before anything was asked is the end of the connection.
            if connection.sock and select.select([connection.sock], [], [], 0)[0]:
                self.figures.count("replaced")
                connection.close()
            used = connection.sock is not None
            try:
                return self.ask(connection, keep=True)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                # Not a byte of an answer.
                if not used:
                    raise
                self.figures.count("retried")
                connection.close()
                return self.ask(connection, keep=True)
        except BaseException:
            connection.close()
            raise
        finally:
            self.kept.put(connection)

    def ask_on_new(self):
        connection = self.connection()
        try:
            return self.ask(connection, keep=False)
        finally:
            connection.close()

    def send(self, number, due):
        try:
            version = self.ask_on_kept() if number % 2 else self.ask_on_new()
            latency = time.monotonic() - due
            if latency > PATIENCE:
                raise TimeoutError(f"answered after {latency:.1f} s")
            self.figures.answer(version, latency)
        except Exception as error:
            self.figures.lose(error)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("url")
    arguments.add_argument("body")
    arguments.add_argument("--rate", type=float, default=20, help="requests in a second")
    options = arguments.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    figures = Figures()
    client = Client(options.url, options.body.encode(), figures)
    begun, told, under_way = time.monotonic(), time.monotonic(), collections.deque()
    for number in itertools.count():
        due = begun + number / options.rate
        if stop.wait(max(0, due - time.monotonic())):
            break
        figures.count("sent")
        thread = threading.Thread(target=client.send, args=(number, due))
        thread.start()
        under_way.append(thread)
        while under_way and not under_way[0].is_alive():
            under_way.popleft()
        if time.monotonic() - told > PERIOD:
            told = time.monotonic()
            figures.tell(over=False)
    for thread in under_way:
        thread.join()
    figures.tell(over=True)


if __name__ == "__main__":
    main()
