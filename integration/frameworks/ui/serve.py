"""serve.py PORT ARGUMENT… serves Kaskade, which is made for terminals, as a web page on 127.0.0.1:PORT."""
import shlex
import sys

from textual_serve.server import Server

Server(shlex.join(["kaskade", *sys.argv[2:]]), host="127.0.0.1", port=int(sys.argv[1]), title="Kaskade").serve()
