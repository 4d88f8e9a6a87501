"""A program that uses PostgreSQL through psycopg: rows, COPY both ways, and a query that is cancelled.

Takes one JSON object: "connection", and with "cancel" two of them, whose second session's query is cancelled.
"""

import hashlib
import json
import sys
import threading

import psycopg

options = json.loads(sys.argv[1])


def rows():
    with psycopg.connect(options["connection"]) as connection:
        connection.execute("create temp table t (id int primary key, body text)")
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into t values (%s, %s)", [(number, f"row {number} " * 5) for number in range(10_000)]
            )
            cursor.execute("select id, body from t order by id")
            read = cursor.fetchall()
        assert read == [(number, f"row {number} " * 5) for number in range(10_000)]
        # COPY in of 8 MiB, and the same out again.
        sent = hashlib.sha256()
        connection.execute("create temp table c (line text)")
        with connection.cursor() as cursor:
            with cursor.copy("copy c from stdin") as copy:
                for number in range(8192):
                    line = f"{number:06d} " + "x" * 1016 + "\n"
                    sent.update(line.encode())
                    copy.write(line)
            received = hashlib.sha256()
            with cursor.copy("copy (select line from c order by line) to stdout") as copy:
                for block in copy:
                    received.update(block)
        assert sent.digest() == received.digest()
        print(json.dumps({"rows": len(read), "copied": 8192, "sha256": received.hexdigest()}))


def cancel():
    """Cancels the query of each session, one after the other, by requests within TLS."""
    connections = [psycopg.connect(connection, autocommit=True) for connection in options["cancel"]]
    ended = []

    def sleep(index):
        try:
            connections[index].execute("select pg_sleep(60)")
            ended.append((index, "slept"))
        except psycopg.errors.QueryCanceled as error:
            ended.append((index, str(error).strip()))

    sleepers = [threading.Thread(target=sleep, args=(index,)) for index in range(len(connections))]
    for sleeper in sleepers:
        sleeper.start()
    print("sleeping", flush=True)
    sys.stdin.readline()
    for connection, sleeper in zip(connections, sleepers):
        # libpq 17 and later: on a connection of its own, encrypted as that of the session is.
        connection.cancel_safe(timeout=20)
        sleeper.join(20)
        assert not sleeper.is_alive()
    print(json.dumps(ended))
    for connection in connections:
        connection.close()


if "cancel" in options:
    cancel()
else:
    rows()
