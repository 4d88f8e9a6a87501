"""Either side of a WebSocket, with the `websockets` package; and a page for browsers.

    websocket.py '{"serve": true}'
    websocket.py '{"url": "wss://localhost:8443/exchange", "ca": "FILE", "messages": 10000}'

The server prints `listening on PORT`, and a line for each WebSocket that ended. At `/exchange?messages=N` both sides
send N messages that the other knows beforehand, at the same time, and check what they get; the server then closes with
4001, or with 4002 where something was wrong. At any other path it sends every message back; a plain GET gets a page.
The client prints one JSON object. Without `messages`, it sends a ping, waits for a message, and closes with 4003.
"""

import asyncio
import hashlib
import http
import json
import ssl
import sys
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

PAGE = b"<!doctype html><title>WebSocket</title><body>nothing yet</body>"


def messages(side, count):
    """Of all lengths up to a few frames of TLS, text and binary in turn."""
    for number in range(count):
        octets = hashlib.sha256(f"{side} {number}".encode()).digest()
        octets = (octets * 400)[: number * 7919 % 12_000]
        yield octets.hex()[: len(octets)] if number % 2 else octets


async def exchange(socket, mine, theirs, count):
    """Sends all of `mine` and receives all of `theirs`; the SHA-256 of what came, and of what should have come."""

    async def send():
        for message in messages(mine, count):
            await socket.send(message)

    sending = asyncio.create_task(send())
    came, expected = hashlib.sha256(), hashlib.sha256()
    for message in messages(theirs, count):
        received = await socket.recv()
        for digest, one in ((came, received), (expected, message)):
            digest.update(one.encode() if isinstance(one, str) else one)
            digest.update(b"text" if isinstance(one, str) else b"binary")
    await sending
    return came.hexdigest(), expected.hexdigest()


async def answer(socket):
    url = urlsplit(socket.request.path)
    if url.path == "/exchange":
        count = int(parse_qs(url.query)["messages"][0])
        came, expected = await exchange(socket, "server", "client", count)
        await (await socket.ping(b"from the server"))
        await socket.close(4001 if came == expected else 4002, "done")
    else:
        try:
            async for message in socket:
                await socket.send(message)
        except ConnectionClosed:
            pass
    print(f"ended {socket.close_code} {socket.close_reason}", flush=True)


def page(connection, request):
    if request.headers.get("Upgrade"):
        return None
    headers = Headers({"Content-Type": "text/html", "Content-Length": str(len(PAGE)), "Connection": "close"})
    return Response(http.HTTPStatus.OK.value, "OK", headers, PAGE)


async def listen():
    async with serve(answer, "127.0.0.1", 0, process_request=page, compression=None) as server:
        print(f"listening on {server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


async def ask(options):
    context = ssl.create_default_context(cafile=options["ca"])
    count = options.get("messages", 0)
    url = f"{options['url']}?messages={count}" if count else options["url"]
    async with connect(url, ssl=context, compression=None) as socket:
        told = {"open": True}
        if count:
            came, expected = await exchange(socket, "client", "server", count)
            told["correct"] = came == expected
            await socket.wait_closed()
        elif options.get("wait"):
            print("open", flush=True)
            await socket.wait_closed()
        else:
            await (await socket.ping(b"from the client"))
            await socket.send("hello")
            told["answer"] = await socket.recv()
            await socket.close(4003, "enough")
        told["code"], told["reason"] = socket.close_code, socket.close_reason
    print(json.dumps(told), flush=True)


settings = json.loads(sys.argv[1])
asyncio.run(listen() if settings.get("serve") else ask(settings))
