"""redis-py against HOST PORT: what an application does on an ordinary day, in RESP2 and RESP3."""

import sys
import time

import redis

HOST, PORT = sys.argv[1], int(sys.argv[2])


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"expected {expected!r}, found {found!r}")


def connect(protocol, decode=True):
    return redis.Redis(
        host=HOST, port=PORT, protocol=protocol, decode_responses=decode, client_name="story"
    )


def strings(r):
    equal(r.set("py:s", "v"), True)
    equal(r.set("py:s", "w", nx=True), None)
    equal(r.set("py:s", "w", get=True), "v")
    equal((r.get("py:s"), r.get("py:none"), r.strlen("py:s")), ("w", None, 1))
    equal(r.append("py:s", "xyz"), 4)
    equal(r.getrange("py:s", 1, 2), "xy")
    equal(r.mset({"py:a": 1, "py:b": 2}), True)
    equal(r.mget("py:a", "py:none", "py:b"), ["1", None, "2"])
    equal((r.incr("py:a", 41), r.decr("py:b"), r.incrbyfloat("py:f", 1.5)), (42, 1, 1.5))
    equal(r.exists("py:a", "py:b", "py:none"), 2)
    equal((r.type("py:a"), r.type("py:none")), ("string", "none"))
    equal(r.delete("py:a", "py:b", "py:none"), 2)
    equal(r.set("py:\N{GRINNING FACE}", "\N{SNOWMAN}"), True)
    equal(r.get("py:\N{GRINNING FACE}"), "\N{SNOWMAN}")


def hashes(r):
    equal(r.hset("py:h", mapping={"a": 1, "b": "zwei", "c": 3.5}), 3)
    equal(r.hgetall("py:h"), {"a": "1", "b": "zwei", "c": "3.5"})
    equal(r.hmget("py:h", ["b", "none"]), ["zwei", None])
    equal((r.hincrby("py:h", "a", 9), r.hlen("py:h"), r.hexists("py:h", "z")), (10, 3, False))
    equal(sorted(r.hkeys("py:h")), ["a", "b", "c"])
    equal((r.hdel("py:h", "a", "z"), dict(r.hscan_iter("py:h"))), (1, {"b": "zwei", "c": "3.5"}))


def sorted_sets(r):
    equal(r.zadd("py:z", {"one": 1, "two": 2, "three": 3}), 3)
    equal(r.zrange("py:z", 0, -1), ["one", "two", "three"])
    pairs = [list(pair) for pair in r.zrange("py:z", 0, 1, withscores=True)]
    equal(pairs, [["one", 1.0], ["two", 2.0]])
    equal(r.zrange("py:z", 0, 0, desc=True), ["three"])
    equal(r.zrangebyscore("py:z", "(1", "+inf"), ["two", "three"])
    equal((r.zscore("py:z", "two"), r.zscore("py:z", "none")), (2.0, None))
    equal((r.zincrby("py:z", 5, "one"), r.zrank("py:z", "one"), r.zcard("py:z")), (6.0, 2, 3))
    equal(dict(r.zscan_iter("py:z")), {"one": 6.0, "two": 2.0, "three": 3.0})
    equal(r.zrem("py:z", "one", "none"), 1)


def lists(r):
    equal((r.rpush("py:l", "b", "c"), r.lpush("py:l", "a")), (2, 3))
    equal((r.lrange("py:l", 0, -1), r.llen("py:l")), (["a", "b", "c"], 3))
    equal((r.lindex("py:l", -1), r.lset("py:l", 0, "A")), ("c", True))
    equal((r.lpop("py:l"), r.rpop("py:l", 5), r.lpop("py:l")), ("A", ["c", "b"], None))


def sets(r):
    equal((r.sadd("py:t", "x", "y", "x"), r.scard("py:t")), (2, 2))
    equal((r.smembers("py:t"), r.sismember("py:t", "x")), ({"x", "y"}, True))
    equal(set(r.sscan_iter("py:t")), {"x", "y"})
    equal((r.srem("py:t", "x"), r.smembers("py:t")), (1, {"y"}))


def expiry(r):
    equal(r.set("py:e", "v", px=200), True)
    equal(0 < r.pttl("py:e") <= 200, True)
    equal((r.expire("py:none", 5), r.ttl("py:none")), (False, -2))
    equal((r.set("py:k", "v"), r.ttl("py:k"), r.expire("py:k", 100)), (True, -1, True))
    equal((r.ttl("py:k") in (99, 100), r.persist("py:k"), r.ttl("py:k")), (True, True, -1))
    deadline = time.monotonic() + 5
    while r.get("py:e") is not None:
        equal(time.monotonic() < deadline, True)


def pipelines(r):
    with r.pipeline(transaction=False) as p:
        for n in range(500):
            p.set(f"py:p:{n}", n).hset("py:ph", f"f{n}", n)
        p.lpop("py:ph").get("py:p:7")
        answers = p.execute(raise_on_error=False)
    equal(answers[:1000], [True, 1] * 500)
    equal(isinstance(answers[1000], redis.ResponseError), True)
    equal("WRONGTYPE" in str(answers[1000]), True)
    equal(answers[1001], "7")
    equal(sorted(r.scan_iter("py:p:*", count=50)), sorted(f"py:p:{n}" for n in range(500)))


def server(r):
    equal((r.ping(), r.echo("hi")), (True, "hi"))
    equal(isinstance(r.info()["redis_version"], str), True)
    equal(r.client_getname(), "story")
    try:
        r.execute_command("NOSUCH", "command")
        raise AssertionError("an unknown command was answered")
    except redis.ResponseError as error:
        equal("unknown command" in str(error), True)


def raw(protocol):
    r = connect(protocol, decode=False)
    blob = bytes(range(256)) * 4096
    equal(r.set(b"py:raw\x00\r\n", blob), True)
    equal(r.get(b"py:raw\x00\r\n"), blob)
    equal(r.delete(b"py:raw\x00\r\n"), 1)


for protocol in (2, 3):
    r = connect(protocol)
    for story in (strings, hashes, sorted_sets, lists, sets, expiry, pipelines, server):
        for key in r.scan_iter("py:*", count=1000):
            r.delete(key)
        try:
            story(r)
        except Exception as error:
            raise SystemExit(f"redis-py, RESP{protocol}, {story.__name__}: {error!r}")
    raw(protocol)
    for key in r.scan_iter("py:*"):
        r.delete(key)
print(f"redis-py {redis.__version__}: RESP2 and RESP3 are well")
