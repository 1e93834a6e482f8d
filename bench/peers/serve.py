"""Which installation is compared with a peer? A scratch one on PostgreSQL and Redis, served until Ctrl-C.

    python -m bench.peers.serve --port 8000 --rules 10000 --journal 55000

Prints its address and a token. `product.json` beside this file names its routes in the form of the harness
`bench_http.py`, which runs two targets interleaved (A B, B A, …):

    python3 bench_http.py product.json OTHER.json --set token=TOKEN --set base_url=http://127.0.0.1:8000
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from contextlib import ExitStack

from bench.scene import Scene, end_in_order
from tests.private_services import PrivatePostgresql, PrivateRedis


def main(arguments: list[str]) -> None:
    """Serve until somebody stops it."""
    parser = ArgumentParser(prog="bench.peers.serve", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--rules", type=int, default=10_000)
    parser.add_argument("--journal", type=int, default=55_000)
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        postgresql = stack.enter_context(PrivatePostgresql())
        cache = stack.enter_context(PrivateRedis())
        scene = stack.enter_context(Scene(postgresql.create("peers"), cache.url))
        facts = scene.fill(options.rules, options.journal, lambda done, wanted: None)
        server = stack.enter_context(scene.server(port=options.port))
        print(f"http://127.0.0.1:{server.port} token={facts['token']}", flush=True)
        while True:
            time.sleep(1)


if __name__ == "__main__":
    end_in_order()
    main(sys.argv[1:])
