"""A foreign client: Autobahn|Python does what it is told, one JSON order a line on
the standard input, and answers one JSON line each.

    SECRET=... session.py URL REALM AUTHID SERIALIZER

    {"call": URI, "args": [...], "kwargs": {...}}   -> {"args": [...], "kwargs": {...}} or {"error": URI, "args": [...]};
                                                       with "progress": true, parts of the answer come as events of URI
    {"subscribe": TOPIC, "match": "exact"}          -> {"subscribed": TOPIC}
    {"register": URI}                               -> {"registered": URI}; it answers its arguments
    {"publish": TOPIC, "args": [...]}               -> {"published": TOPIC}

Events come in between: {"event": TOPIC, "args": [...]}. The first line is
{"joined": {"realm": ..., "authid": ..., "authrole": ...}} or {"refused": TEXT}.
"""
import asyncio
import json
import os
import sys

from autobahn.asyncio.component import Component
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallOptions, PublishOptions, SubscribeOptions

url, realm, authid, serializer = sys.argv[1:5]
secret = os.environ["SECRET"]


def say(**what):
    print(json.dumps(what, default=repr), flush=True)


component = Component(
    transports=[{"type": "websocket", "url": url, "serializers": [serializer], "max_retries": 0}],
    realm=realm,
    authentication={"wampcra": {"authid": authid, "secret": secret}},
)


async def obey(session, order):
    if "call" in order:
        try:
            kwargs = order.get("kwargs", {})
            if order.get("progress"):
                kwargs["options"] = CallOptions(on_progress=lambda *args: say(event=order["call"], args=list(args)))
            answer = await session.call(order["call"], *order.get("args", []), **kwargs)
        except ApplicationError as e:
            say(error=e.error, args=list(e.args))
            return
        if hasattr(answer, "results"):  # several results, or named ones
            say(args=list(answer.results), kwargs=dict(answer.kwresults))
        else:
            say(args=[] if answer is None else [answer], kwargs={})
    elif "subscribe" in order:
        topic = order["subscribe"]
        await session.subscribe(
            lambda *args, **kwargs: say(event=topic, args=list(args)), topic,
            SubscribeOptions(match=order.get("match", "exact")),
        )
        say(subscribed=topic)
    elif "register" in order:
        await session.register(lambda *args: list(args), order["register"])
        say(registered=order["register"])
    elif "publish" in order:
        await session.publish(order["publish"], *order.get("args", []), options=PublishOptions(acknowledge=True))
        say(published=order["publish"])


@component.on_join
async def joined(session, details):
    say(joined={"realm": details.realm, "authid": details.authid, "authrole": details.authrole})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            await obey(session, json.loads(line))
        except ApplicationError as e:
            say(error=e.error, args=list(e.args))
    session.leave()


async def main():
    try:
        await component.start(loop=asyncio.get_running_loop())
    except Exception as e:  # whatever the router's word for it is
        say(refused=repr(e))


asyncio.run(main())
