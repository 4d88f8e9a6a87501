"""A gRPC client of Google's C core, against grpc_server.py: every kind of call, and errors in trailers.

Takes one JSON object: {"target": "localhost:1", "ca": "FILE", "calls": 100}. Prints a line for each kind of call.
"""

import json
import queue
import sys
import threading

import grpc

PATIENCE = 60


def main():
    options = json.loads(sys.argv[1])
    with open(options["ca"], "rb") as ca:
        credentials = grpc.ssl_channel_credentials(ca.read())
    # The name must not resolve to ::1, where nothing listens.
    port = options["target"].rsplit(":", 1)[1]
    names = (("grpc.ssl_target_name_override", "localhost"), ("grpc.default_authority", "localhost"),
             ("grpc.enable_http_proxy", 0))
    with grpc.secure_channel(f"ipv4:127.0.0.1:{port}", credentials, options=names) as channel:
        method = lambda kind, name: getattr(channel, kind)(f"/qtls.Test/{name}")

        unary = method("unary_unary", "Unary")
        answer, call = unary.with_call(b"hello", timeout=PATIENCE, metadata=(("x-qtls-group", "forged"),))
        initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())
        assert answer == b"echo hello", answer
        assert initial["x-initial"] == "here", initial
        assert trailing["x-trailing"] == "there", trailing
        print("unary", call.code().name, trailing["x-seen"])

        try:
            method("unary_unary", "Fail")(b"why", timeout=PATIENCE)
            raise SystemExit("no error")
        except grpc.RpcError as error:
            trailing = dict(error.trailing_metadata())
            print("fail", error.code().name, error.details(), trailing["x-trailing"])

        numbers = [int(part) for part in method("unary_stream", "Count")(b"1000", timeout=PATIENCE)]
        assert numbers == list(range(1000)), numbers[:10]
        print("server streaming", len(numbers))

        parts = (b"x" * 10_000 for _ in range(400))
        print("client streaming", method("stream_unary", "Total")(parts, timeout=PATIENCE).decode())

        # Each message is sent when the answer to the one before it has come.
        outgoing = queue.Queue()
        chat = method("stream_stream", "Chat")(iter(outgoing.get, None), timeout=PATIENCE)
        for number in range(200):
            outgoing.put(f"message {number}".encode())
            assert next(chat) == f"re: message {number}".encode()
        outgoing.put(None)
        assert list(chat) == []
        print("bidirectional", dict(chat.trailing_metadata())["x-trailing"], chat.code().name)

        # Many at once, on one connection.
        calls = options.get("calls", 100)
        pending = [unary.future(f"{number}".encode(), timeout=PATIENCE) for number in range(calls)]
        answers = [future.result() for future in pending]
        assert answers == [f"echo {number}".encode() for number in range(calls)]
        print("at once", len(answers))

        # The client goes in the middle: the server's side has to hear of it.
        endless = method("unary_stream", "Count")(b"1000000000", timeout=PATIENCE)
        next(endless)
        endless.cancel()
        assert unary(b"after", timeout=PATIENCE) == b"echo after"
        print("cancelled")


main()
